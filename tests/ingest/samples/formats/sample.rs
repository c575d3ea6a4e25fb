pub fn tide(hour: u32) -> u32 {
    60 + hour
}
