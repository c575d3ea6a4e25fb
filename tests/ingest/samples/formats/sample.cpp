class Station {
  public:
    int tide() { return 43; }
};
