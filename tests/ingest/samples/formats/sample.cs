public class Station
{
    public int Tide() { return 44; }
}
