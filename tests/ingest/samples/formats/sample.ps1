function Get-Tide {
    return 56
}
