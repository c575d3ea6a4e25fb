export function Tide(): Element {
  return <b>{66}</b>;
}
