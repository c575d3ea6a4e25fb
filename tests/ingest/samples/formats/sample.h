struct station {
    int tide; /* 47 */
};
