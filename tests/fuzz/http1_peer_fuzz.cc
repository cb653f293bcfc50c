// Our reader of HTTP/1.1 against another one, Boost.Beast's: what ours accepts the other accepts with the same method,
// target, fields and framing, so that no second reader finds another message in the bytes. The first byte chooses:
// request, response to GET, response to HEAD, chunked request. What ours refuses is of no interest here: it refuses
// more (folded lines, HTTP versions but 1.0 and 1.1, bare LF, a missing or second Host, repeated or listed lengths,
// transfer codings but `chunked`, targets that are no URL).
//
// Where the other one is stricter or differs, on purpose of one of both, the case is named below.
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/check.h"
#include "proto/http1.h"
#include "proto/http1_chunked.h"
#include "proto/http1_grammar.h"

namespace http = boost::beast::http;
using namespace tunnel::proto;

namespace {

std::string_view View(boost::beast::string_view text) { return {text.data(), text.size()}; }

// Beast takes Connection, Proxy-Connection and Upgrade for lists of tokens and refuses others; ours looks for tokens in
// them and reads nothing else out of them.
bool HasConnectionLists(const HeaderFields& fields) {
  for (const HeaderField& field : fields.all()) {
    for (const std::string_view name : {"connection", "proxy-connection", "upgrade"}) {
      if (EqualsIgnoreCase(field.name, name)) return true;
    }
  }
  return false;
}

template <bool kRequest, typename Body>
void Limit(http::parser<kRequest, Body>& parser) {
  parser.header_limit(64 * 1024);
  parser.body_limit(UINT64_MAX);
}

// Feeds the whole and says whether the other accepted it as far as it went.
template <bool kRequest, typename Body>
boost::beast::error_code Put(http::parser<kRequest, Body>& parser, std::string_view bytes, size_t& consumed) {
  boost::beast::error_code error;
  consumed = parser.put(boost::asio::buffer(bytes.data(), bytes.size()), error);
  return error;
}

template <bool kRequest, typename Message>
void CheckFields(const HeaderFields& ours, const Message& theirs) {
  auto it = theirs.begin();
  // Beast keeps fields of one name together, in their order, behind the first of them.
  for (const HeaderField& field : ours.all()) {
    const auto range = theirs.equal_range(boost::beast::string_view(field.name.data(), field.name.size()));
    bool found = false;
    for (auto same = range.first; same != range.second; ++same) found = found || View(same->value()) == field.value;
    TUNNEL_CHECK(found);
  }
  size_t count = 0;
  for (; it != theirs.end(); ++it) ++count;
  TUNNEL_CHECK(count == ours.all().size());
}

template <typename Parser>
BodyFraming FramingOf(const Parser& parser) {
  if (parser.chunked()) return {.kind = BodyFraming::Kind::kChunked};
  const auto length = parser.content_length();
  if (length) return {.kind = BodyFraming::Kind::kLength, .length = *length};
  return {};
}

void CheckRequest(std::string_view bytes) {
  RequestHead head;
  const HeadResult ours = ParseRequestHead(bytes, head);
  if (ours.kind != HeadResult::Kind::kDone || HasConnectionLists(head.fields)) return;
  http::request_parser<http::empty_body> parser;
  Limit(parser);
  size_t consumed = 0;
  const auto error = Put(parser, bytes.substr(0, ours.head_bytes), consumed);
  TUNNEL_CHECK(!error || error == http::error::need_more || error == http::error::unexpected_body);
  TUNNEL_CHECK(parser.is_header_done());
  const auto& theirs = parser.get();
  TUNNEL_CHECK(View(theirs.method_string()) == head.method);
  TUNNEL_CHECK(View(theirs.target()) == head.target);
  TUNNEL_CHECK(theirs.version() == 10U + static_cast<unsigned>(head.minor_version));
  CheckFields<true>(head.fields, theirs);
  // CONNECT has no content whatever its fields say (RFC 9110 9.3.6); Beast does not know this.
  if (head.form != TargetForm::kAuthority) TUNNEL_CHECK(FramingOf(parser) == head.framing);
  TUNNEL_CHECK(theirs.keep_alive() == head.persistent);
}

void CheckResponse(std::string_view bytes, std::string_view method) {
  ResponseHead head;
  const HeadResult ours = ParseResponseHead(bytes, method, head);
  if (ours.kind != HeadResult::Kind::kDone || HasConnectionLists(head.fields)) return;
  // Ours goes without the space behind a status code that no reason follows; servers leave it out.
  if (bytes.substr(0, bytes.find('\r')).size() == std::string_view("HTTP/1.1 200").size()) return;
  http::response_parser<http::empty_body> parser;
  Limit(parser);
  parser.skip(true);  // the head alone
  size_t consumed = 0;
  const auto error = Put(parser, bytes.substr(0, ours.head_bytes), consumed);
  TUNNEL_CHECK(!error || error == http::error::need_more);
  TUNNEL_CHECK(parser.is_header_done() && consumed == ours.head_bytes);
  const auto& theirs = parser.get();
  TUNNEL_CHECK(theirs.result_int() == static_cast<unsigned>(head.status));
  // Beast says its own words where there are none.
  TUNNEL_CHECK(head.reason.empty() || View(theirs.reason()) == head.reason);
  CheckFields<false>(head.fields, theirs);
  const bool bodyless = method == "HEAD" || head.status < 200 || head.status == 204 || head.status == 304;
  if (!bodyless && head.framing.kind != BodyFraming::Kind::kUntilClose) {
    TUNNEL_CHECK(FramingOf(parser) == head.framing);
  }
}

// A chunked body that ours takes to its end: the same bytes, the same end.
void CheckChunked(std::string_view body) {
  ChunkedDecoder decoder;
  std::string ours;
  std::string trailers;
  size_t taken = 0;
  ChunkedDecoder::Step step;
  do {
    step = decoder.Next(body.substr(taken));
    ours += step.data;
    trailers += step.trailers;
    taken += step.consumed;
  } while (step.kind == ChunkedDecoder::Step::Kind::kData);
  if (step.kind != ChunkedDecoder::Step::Kind::kDone) return;
  // Beast reads extensions by their grammar, and trailers as fields, with the rules of framing and Connection; ours
  // drops extensions unread and leaves those trailers out of what it sends on.
  if (body.substr(0, taken).find(';') != std::string_view::npos || trailers != "\r\n") return;
  http::request_parser<http::string_body> parser;
  Limit(parser);
  parser.eager(true);
  const std::string text = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + std::string(body);
  size_t consumed = 0;
  boost::beast::error_code error;
  std::string_view rest = text;
  while (!parser.is_done()) {
    consumed = parser.put(boost::asio::buffer(rest.data(), rest.size()), error);
    TUNNEL_CHECK(!error || error == http::error::need_more);
    rest.remove_prefix(consumed);
    if (consumed == 0) break;
  }
  TUNNEL_CHECK(parser.is_done());
  TUNNEL_CHECK(parser.get().body() == ours);
  TUNNEL_CHECK(rest.size() == body.size() - taken);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % 4) {
    case 0:
      CheckRequest(input);
      break;
    case 1:
      CheckResponse(input, "GET");
      break;
    case 2:
      CheckResponse(input, "HEAD");
      break;
    default:
      CheckChunked(input);
      break;
  }
  return 0;
}
