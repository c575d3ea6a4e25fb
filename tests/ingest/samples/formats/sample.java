public class Station {
    public int tide() {
        return 49;
    }
}
