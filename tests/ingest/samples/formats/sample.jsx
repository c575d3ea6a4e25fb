export const Tide = (props) => {
  return <b>{51 + props.hour}</b>;
};
