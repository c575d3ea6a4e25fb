tide <- function(hour) {
  58 + hour
}
