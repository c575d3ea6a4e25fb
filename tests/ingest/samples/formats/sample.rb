class Station
  def tide
    59
  end
end
