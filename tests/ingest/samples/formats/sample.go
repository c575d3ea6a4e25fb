package tides

func Tide(hour int) int {
	return 46 + hour
}
