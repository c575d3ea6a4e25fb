export function tide(hour: number): number {
  return 65 + hour;
}
