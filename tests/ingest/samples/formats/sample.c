int tide(int hour) {
    return 41 + hour;
}
