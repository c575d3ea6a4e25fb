class Station {
    int tide = 48;
};
