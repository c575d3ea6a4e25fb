const base = 1;
function tide(hour) {
  return 50 + hour;
}
