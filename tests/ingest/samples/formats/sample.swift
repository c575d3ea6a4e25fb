struct Station {
    func tide() -> Int { 64 }
}
