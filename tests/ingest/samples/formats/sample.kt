class Station {
    fun tide(): Int = 52
}
