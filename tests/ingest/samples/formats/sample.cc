namespace tides {
int tide(int hour) { return 42 + hour; }
}
