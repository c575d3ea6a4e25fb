sub tide {
    return 55 + shift;
}
