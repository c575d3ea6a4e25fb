object Station {
  def tide(hour: Int): Int = 61 + hour
}
