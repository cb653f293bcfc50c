// HTTP/1.1 heads and chunked bodies. The first byte chooses: request, response (to GET, HEAD, CONNECT), chunked.
// The same outcome however the bytes are cut; what is accepted is written by our builder and read back the same.
#include <cstdint>
#include <string>
#include <string_view>

#include "core/check.h"
#include "proto/http1.h"
#include "proto/http1_builder.h"
#include "proto/http1_chunked.h"
#include "proto/http1_grammar.h"
#include "proto/http1_upgrade.h"

using namespace tunnel::proto;

namespace {

// Parses growing prefixes until the outcome is there, and checks that it is that of the whole.
template <typename Head, typename Parse>
void CheckBytewise(std::string_view bytes, const HeadResult& whole, Parse parse) {
  for (size_t size = 1; size <= bytes.size(); ++size) {
    Head head;
    const HeadResult result = parse(bytes.substr(0, size), head, size - 1);
    if (result.kind == HeadResult::Kind::kNeedMore) continue;
    TUNNEL_CHECK(result.kind == whole.kind && result.head_bytes == whole.head_bytes);
    TUNNEL_CHECK(result.status == whole.status && result.reason == whole.reason);
    TUNNEL_CHECK(result.kind == HeadResult::Kind::kError || result.head_bytes == size);
    return;
  }
  TUNNEL_CHECK(whole.kind == HeadResult::Kind::kNeedMore);
}

template <typename Head>
std::string Rebuild(HttpHeadBuilder builder, const Head& head) {
  for (const HeaderField& field : head.fields.all()) builder.Add(field.name, field.value);
  const auto text = builder.Finish();
  TUNNEL_CHECK(text.ok());
  // The rebuilt head may be longer than the bound, by the spaces after colons.
  return text->size() <= kHttp1MaxHeadBytes ? *text : std::string();
}

template <typename Head>
void CheckSameFields(const Head& a, const Head& b) {
  TUNNEL_CHECK(a.framing == b.framing);
  TUNNEL_CHECK(a.fields.all().size() == b.fields.all().size());
  for (size_t i = 0; i < a.fields.all().size(); ++i) {
    TUNNEL_CHECK(a.fields.all()[i].name == b.fields.all()[i].name);
    TUNNEL_CHECK(a.fields.all()[i].value == b.fields.all()[i].value);
    TUNNEL_CHECK(IsToken(a.fields.all()[i].name) && IsFieldValue(a.fields.all()[i].value));
  }
}

void CheckRequest(std::string_view bytes) {
  RequestHead head;
  const HeadResult whole = ParseRequestHead(bytes, head);
  CheckBytewise<RequestHead>(bytes, whole, [](std::string_view prefix, RequestHead& out, size_t scanned) {
    return ParseRequestHead(prefix, out, scanned);
  });
  if (whole.kind != HeadResult::Kind::kDone) return;
  TUNNEL_CHECK(head.fields.Count("content-length") + head.fields.Count("transfer-encoding") <= 1);
  TUNNEL_CHECK(head.fields.Count("host") == 1 || head.minor_version == 0);
  (void)CheckWebSocketUpgrade(head).ok();
  if (head.minor_version == 0) return;  // the builder writes 1.1, which asks for more
  const std::string text = Rebuild(HttpHeadBuilder::Request(head.method, head.target), head);
  if (text.empty()) return;
  RequestHead again;
  TUNNEL_CHECK(ParseRequestHead(text, again).head_bytes == text.size());
  TUNNEL_CHECK(again.host == head.host && again.port == head.port && again.path == head.path);
  CheckSameFields(head, again);
}

void CheckResponse(std::string_view bytes, std::string_view method) {
  ResponseHead head;
  const HeadResult whole = ParseResponseHead(bytes, method, head);
  CheckBytewise<ResponseHead>(bytes, whole, [method](std::string_view prefix, ResponseHead& out, size_t scanned) {
    return ParseResponseHead(prefix, method, out, scanned);
  });
  if (whole.kind != HeadResult::Kind::kDone) return;
  (void)CheckWebSocketAccept(head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "token").ok();
  if (head.minor_version == 0) return;
  const std::string text = Rebuild(HttpHeadBuilder::Response(head.status, head.reason), head);
  // The start line may have grown by the space after its code.
  if (text.empty() || text.find('\n') >= kHttp1MaxStartLineBytes) return;
  ResponseHead again;
  TUNNEL_CHECK(ParseResponseHead(text, method, again).head_bytes == text.size());
  TUNNEL_CHECK(again.status == head.status && again.reason == head.reason);
  CheckSameFields(head, again);
}

struct Decoded {
  ChunkedDecoder::Step::Kind kind = ChunkedDecoder::Step::Kind::kNeedMore;
  std::string body;
  size_t consumed = 0;

  bool operator==(const Decoded&) const = default;
};

Decoded Decode(std::string_view input, size_t piece) {
  ChunkedDecoder decoder;
  Decoded decoded;
  while (decoded.consumed < input.size()) {
    std::string_view fed = input.substr(decoded.consumed, piece);
    do {
      const ChunkedDecoder::Step step = decoder.Next(fed);
      decoded.kind = step.kind;
      decoded.body += step.data;
      decoded.consumed += step.consumed;
      fed.remove_prefix(step.consumed);
    } while (decoded.kind == ChunkedDecoder::Step::Kind::kData);
    if (decoded.kind != ChunkedDecoder::Step::Kind::kNeedMore) break;
    TUNNEL_CHECK(fed.empty());
  }
  return decoded;
}

void CheckChunked(std::string_view input) {
  const Decoded whole = Decode(input, input.size() + 1);
  TUNNEL_CHECK(Decode(input, 1) == whole);
  TUNNEL_CHECK(Decode(input, 7) == whole);
  if (whole.kind != ChunkedDecoder::Step::Kind::kDone) return;
  TUNNEL_CHECK(Decode(input.substr(0, whole.consumed), input.size() + 1) == whole);
  TUNNEL_CHECK(input.substr(0, whole.consumed).ends_with("\r\n"));
  TUNNEL_CHECK(whole.body.size() < whole.consumed);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % 5) {
    case 0:
      CheckRequest(input);
      break;
    case 1:
      CheckResponse(input, "GET");
      break;
    case 2:
      CheckResponse(input, "HEAD");
      break;
    case 3:
      CheckResponse(input, "CONNECT");
      break;
    default:
      CheckChunked(input);
      break;
  }
  return 0;
}
