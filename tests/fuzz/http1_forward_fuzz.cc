// What a forward proxy sends on. The first byte chooses: request, response, chunked body.
// What goes out is read back, by the parser the input was read with, as the same message without the fields of one hop.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "proto/http1.h"
#include "proto/http1_chunked.h"
#include "proto/http1_forward.h"
#include "proto/http1_grammar.h"

using namespace tunnel::proto;

namespace {

bool IsOfOneHop(std::string_view name) {
  for (const std::string_view one : {"connection", "keep-alive", "te", "transfer-encoding", "upgrade"}) {
    if (EqualsIgnoreCase(name, one)) return true;
  }
  return name.size() >= 6 && EqualsIgnoreCase(name.substr(0, 6), "proxy-");
}

// Every field that goes out came in, in the same order, and is of no single hop unless `may_switch`.
void CheckFields(const HeaderFields& in, const HeaderFields& out, bool may_switch) {
  size_t at = 0;
  for (const HeaderField& field : out.all()) {
    const bool written_anew = EqualsIgnoreCase(field.name, "host") || EqualsIgnoreCase(field.name, "content-length") ||
                              EqualsIgnoreCase(field.name, "transfer-encoding") ||
                              EqualsIgnoreCase(field.name, "max-forwards");
    const bool switching =
        EqualsIgnoreCase(field.name, "connection") || (may_switch && EqualsIgnoreCase(field.name, "upgrade"));
    if (written_anew || switching) continue;
    TUNNEL_CHECK(!IsOfOneHop(field.name));
    TUNNEL_CHECK(!in.HasToken("connection", field.name));
    while (at < in.all().size() && (in.all()[at].name != field.name || in.all()[at].value != field.value)) ++at;
    TUNNEL_CHECK(at++ < in.all().size());
  }
}

void CheckRequest(std::string_view bytes) {
  RequestHead in;
  if (ParseRequestHead(bytes, in).kind != HeadResult::Kind::kDone || in.form != TargetForm::kAbsolute) return;
  for (const bool close : {false, true}) {
    const auto text = ForwardedRequest(in, close);
    TUNNEL_CHECK(text.ok());
    // It may have become longer than the bounds, by a Host that was missing.
    if (text->size() > kHttp1MaxHeadBytes || text->find('\n') >= kHttp1MaxStartLineBytes) return;
    RequestHead out;
    const HeadResult parsed = ParseRequestHead(*text, out);
    if (parsed.status == 431) return;
    TUNNEL_CHECK(parsed.kind == HeadResult::Kind::kDone && parsed.head_bytes == text->size());
    TUNNEL_CHECK(out.form == TargetForm::kOrigin || (out.form == TargetForm::kAsterisk && in.path.empty()));
    TUNNEL_CHECK(out.method == in.method && out.host == in.host && out.port == in.port);
    TUNNEL_CHECK(out.framing == in.framing && out.minor_version == 1);
    TUNNEL_CHECK(std::string_view(out.path).ends_with(in.path));
    TUNNEL_CHECK(out.persistent == (!close || AsksToUpgrade(in)));
    TUNNEL_CHECK(AsksToUpgrade(out) == AsksToUpgrade(in));
    CheckFields(in.fields, out.fields, AsksToUpgrade(in));
  }
}

void CheckResponse(std::string_view bytes, uint8_t choice) {
  ResponseHead in;
  const std::string_view method = (choice & 1) != 0 ? "HEAD" : "GET";
  if (ParseResponseHead(bytes, method, in).kind != HeadResult::Kind::kDone) return;
  const ResponseForwarding how{.client_minor_version = (choice & 2) != 0 ? 1 : 0, .close = (choice & 4) != 0};
  const auto text = ForwardedResponse(in, how);
  TUNNEL_CHECK(text.ok());
  if (text->size() > kHttp1MaxHeadBytes || text->find('\n') >= kHttp1MaxStartLineBytes) return;
  ResponseHead out;
  const HeadResult parsed = ParseResponseHead(*text, method, out);
  if (parsed.status == 431) return;
  TUNNEL_CHECK(parsed.kind == HeadResult::Kind::kDone && parsed.head_bytes == text->size());
  TUNNEL_CHECK(out.status == in.status && out.reason == in.reason);
  const bool unchunked = in.framing.kind == BodyFraming::Kind::kChunked && how.client_minor_version == 0;
  TUNNEL_CHECK(unchunked ? out.framing.kind == BodyFraming::Kind::kUntilClose : out.framing == in.framing);
  CheckFields(in.fields, out.fields, in.status == 101);
}

void CheckTrailers(std::string_view bytes) {
  ChunkedDecoder decoder;
  std::string trailers;
  ChunkedDecoder::Step step;
  do {
    step = decoder.Next(bytes);
    trailers += step.trailers;
    bytes.remove_prefix(step.consumed);
  } while (step.kind == ChunkedDecoder::Step::Kind::kData);
  if (step.kind != ChunkedDecoder::Step::Kind::kDone) return;
  const std::string kept = ForwardedTrailers(trailers);
  ChunkedDecoder again;
  TUNNEL_CHECK(again.Next("0\r\n" + kept + "\r\n").kind == ChunkedDecoder::Step::Kind::kDone);
  TUNNEL_CHECK(ForwardedTrailers(kept) == kept);
  for (std::string_view rest = kept; !rest.empty(); rest.remove_prefix(rest.find("\r\n") + 2)) {
    const std::string_view name = rest.substr(0, rest.find(':'));
    TUNNEL_CHECK(!IsOfOneHop(name) && !EqualsIgnoreCase(name, "content-length") && !EqualsIgnoreCase(name, "host"));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % 3) {
    case 0:
      CheckRequest(input);
      break;
    case 1:
      CheckResponse(input, data[0] / 3);
      break;
    default:
      CheckTrailers(input);
      break;
  }
  return 0;
}
