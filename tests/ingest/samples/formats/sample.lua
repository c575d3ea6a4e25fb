local function tide(hour)
  return 53 + hour
end
