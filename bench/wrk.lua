-- Arguments: METHOD BODY-BYTES PATH [PATH...]. The paths are requested in turn by every thread.
-- Prints one line of JSON. Latencies in microseconds.

local requests, at = {}, 0

function init(args)
  local method, bytes = args[1], tonumber(args[2])
  local body = bytes > 0 and string.rep("x", bytes) or nil
  for i = 3, #args do
    requests[#requests + 1] = wrk.format(method, args[i], nil, body)
  end
  if #requests == 1 then
    -- a constant request costs the load generator least
    request = function() return requests[1] end
  else
    request = function()
      at = at % #requests + 1
      return requests[at]
    end
  end
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"duration_us":%d,"bytes":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d,' ..
    '"p50":%d,"p90":%d,"p99":%d,"max":%d,"mean":%.1f}\n',
    summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write, e.timeout, e.status,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max, latency.mean))
end
