-- Asks for the same chat completion over and over, and reports what wrk counted.
-- Arguments: model, bytes of the body, tokens of the answer, "stream" or "whole"; or a file with the body, its content coding.

local CONTENT = "Tell the story of the lighthouse keeper and the last ship of the year. "

function init(arguments)
  wrk.method = "POST"
  wrk.path = "/v1/chat/completions"
  wrk.headers["Content-Type"] = "application/json"
  if #arguments == 2 then
    local file = assert(io.open(arguments[1], "rb"))
    wrk.body = file:read("*a")
    file:close()
    wrk.headers["Content-Encoding"] = arguments[2]
    return
  end
  local model, bytes, tokens, kind = unpack(arguments)
  local head = string.format(
    '{"model":"%s","max_tokens":%d,"stream":%s,"messages":[{"role":"user","content":"',
    model, tonumber(tokens), tostring(kind == "stream"))
  local tail = '"}]}'
  local room = math.max(1, tonumber(bytes) - #head - #tail)
  local content = string.rep(CONTENT, math.ceil(room / #CONTENT)):sub(1, room)
  wrk.body = head .. content .. tail
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "connect": %d, '
      .. '"read": %d, "write": %d, "status": %d, "timeout": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
