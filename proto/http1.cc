#include "proto/http1.h"

#include <algorithm>

#include "proto/http1_grammar.h"
#include "proto/target.h"

namespace tunnel::proto {
namespace {

// Success is status 0.
struct Fault {
  int status = 0;
  std::string_view reason;

  bool ok() const { return status == 0; }
};

constexpr Fault kOk;

HeadResult Error(Fault fault) {
  return {.kind = HeadResult::Kind::kError, .status = fault.status, .reason = fault.reason};
}

// Finds the empty line that ends a head. Looks only at line ends, at most once at each byte over all calls for one
// head, and refuses a line end that is not CRLF as soon as it is seen.
HeadResult FindHeadEnd(std::string_view bytes, size_t scanned) {
  if (bytes.empty()) return {};
  // Garbage, a TLS ClientHello on a plain port, or an empty line, which RFC 9112 2.2 lets us skip and we do not.
  if (!IsTokenChar(bytes[0])) return Error({400, "the message does not begin with a method or version"});
  const bool first_line_overdue = bytes.size() >= kHttp1MaxStartLineBytes && scanned < kHttp1MaxStartLineBytes;
  if (first_line_overdue && bytes.substr(0, kHttp1MaxStartLineBytes).find('\n') == std::string_view::npos) {
    return Error({414, "the start line is too long"});
  }
  const std::string_view looked_at = bytes.substr(0, kHttp1MaxHeadBytes);
  for (size_t at = looked_at.find('\n', scanned); at != std::string_view::npos; at = looked_at.find('\n', at + 1)) {
    if (looked_at[at - 1] != '\r') return Error({400, "a line ends in a bare LF"});
    if (at >= 3 && looked_at.substr(at - 3, 2) == "\r\n") {
      return {.kind = HeadResult::Kind::kDone, .head_bytes = at + 1};
    }
  }
  if (bytes.size() >= kHttp1MaxHeadBytes) return Error({431, "the message head is too long"});
  return {};
}

// Takes the next line off `rest`, which ends in CRLF, without its CRLF.
std::string_view TakeLine(std::string_view& rest) {
  const size_t end = rest.find("\r\n");
  const std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end + 2);
  return line;
}

Fault ParseVersion(std::string_view text, int& minor) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  if (text.size() != 8 || !text.starts_with("HTTP/") || !is_digit(text[5]) || text[6] != '.' || !is_digit(text[7])) {
    return {400, "malformed HTTP version"};
  }
  if (text[5] != '1' || text[7] > '1') return {505, "neither HTTP/1.0 nor HTTP/1.1"};
  minor = text[7] - '0';
  return kOk;
}

// `rest` holds the field lines and the empty line.
Fault ParseFields(std::string_view rest, HeaderFields& fields) {
  fields.Clear();
  for (std::string_view line = TakeLine(rest); !line.empty(); line = TakeLine(rest)) {
    if (line.front() == ' ' || line.front() == '\t') return {400, "a folded header line"};
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return {400, "a header line without a colon"};
    const HeaderField field{.name = line.substr(0, colon), .value = TrimOws(line.substr(colon + 1))};
    if (!IsToken(field.name)) return {400, "malformed header name"};
    // The untrimmed rest consists of this and of spaces and tabs. A bare CR is found here.
    if (!IsFieldValue(field.value)) return {400, "control character in a header value"};
    if (!fields.Add(field)) return {431, "too many header fields"};
  }
  return kOk;
}

Fault ParseContentLength(std::string_view text, uint64_t& length) {
  if (text.empty()) return {400, "malformed Content-Length"};
  length = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return {400, "malformed Content-Length"};
    const auto digit = static_cast<uint64_t>(c - '0');
    if (length > (kHttp1MaxContentLength - digit) / 10) return {400, "Content-Length is too large"};
    length = length * 10 + digit;
  }
  return kOk;
}

// What the length fields say, whichever message they are in; kNone when there are none.
Fault FieldFraming(const HeaderFields& fields, int minor_version, BodyFraming& framing) {
  framing = {};
  const size_t lengths = fields.Count("content-length");
  const size_t codings = fields.Count("transfer-encoding");
  if (lengths > 1) return {400, "more than one Content-Length"};
  if (codings > 1) return {400, "more than one Transfer-Encoding"};
  if (lengths > 0 && codings > 0) return {400, "both Content-Length and Transfer-Encoding"};
  if (lengths > 0) {
    framing.kind = BodyFraming::Kind::kLength;
    return ParseContentLength(*fields.Find("content-length"), framing.length);
  }
  if (codings > 0) {
    if (minor_version == 0) return {400, "Transfer-Encoding in HTTP/1.0"};
    if (!EqualsIgnoreCase(*fields.Find("transfer-encoding"), "chunked")) {
      return {501, "a Transfer-Encoding other than chunked"};
    }
    framing.kind = BodyFraming::Kind::kChunked;
  }
  return kOk;
}

bool IsPersistent(const HeaderFields& fields, int minor_version) {
  if (fields.HasToken("connection", "close")) return false;
  return minor_version == 1 || fields.HasToken("connection", "keep-alive");
}

uint16_t DefaultPort(std::string_view scheme) {
  if (EqualsIgnoreCase(scheme, "http") || EqualsIgnoreCase(scheme, "ws")) return 80;
  if (EqualsIgnoreCase(scheme, "https") || EqualsIgnoreCase(scheme, "wss")) return 443;
  return 0;
}

// scheme "://" authority [path], with the authority of http: no user information (RFC 9110 4.2.4).
Fault ParseAbsoluteForm(RequestHead& out) {
  const size_t scheme_end = out.target.find("://");
  if (scheme_end == std::string_view::npos) return {400, "malformed request target"};
  out.form = TargetForm::kAbsolute;
  out.scheme = out.target.substr(0, scheme_end);
  const auto is_alpha = [](char c) { return AsciiLower(c) >= 'a' && AsciiLower(c) <= 'z'; };
  const auto is_scheme_char = [&is_alpha](char c) {
    return is_alpha(c) || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
  };
  if (out.scheme.empty() || !is_alpha(out.scheme[0]) ||
      !std::all_of(out.scheme.begin(), out.scheme.end(), is_scheme_char)) {
    return {400, "malformed request target"};
  }
  const std::string_view rest = out.target.substr(scheme_end + 3);
  const size_t authority_end = std::min(rest.find_first_of("/?"), rest.size());
  const std::optional<HostPort> split = SplitHostPort(rest.substr(0, authority_end));
  if (!split) return {400, "malformed authority in the request target"};
  out.host = split->host;
  out.port = split->port;
  out.path = rest.substr(authority_end);
  return kOk;
}

Fault ParseTargetForm(RequestHead& out) {
  // '#' begins a fragment, which no request carries (RFC 9112 3.2).
  if (out.target.empty() || out.target.find('#') != std::string_view::npos ||
      !std::all_of(out.target.begin(), out.target.end(), IsVchar)) {
    return {400, "malformed request target"};
  }
  if (out.method == "CONNECT") {
    const std::optional<HostPort> split = SplitHostPort(out.target);
    if (!split || !split->port) return {400, "the target of CONNECT is not host:port"};
    out.form = TargetForm::kAuthority;
    out.host = split->host;
    out.port = split->port;
    return kOk;
  }
  if (out.target == "*") {
    if (out.method != "OPTIONS") return {400, "the target * is for OPTIONS only"};
    out.form = TargetForm::kAsterisk;
    return kOk;
  }
  if (out.target[0] == '/') {
    out.form = TargetForm::kOrigin;
    out.path = out.target;
    return kOk;
  }
  return ParseAbsoluteForm(out);
}

// method SP request-target SP HTTP-version, each space exactly one.
Fault ParseRequestLine(std::string_view line, RequestHead& out) {
  const size_t first = line.find(' ');
  if (first == std::string_view::npos) return {400, "malformed request line"};
  const size_t second = line.find(' ', first + 1);
  if (second == std::string_view::npos) return {400, "malformed request line"};
  out.method = line.substr(0, first);
  out.target = line.substr(first + 1, second - first - 1);
  out.scheme = out.host = out.path = {};
  out.port.reset();
  if (!IsToken(out.method)) return {400, "malformed method"};
  if (Fault fault = ParseVersion(line.substr(second + 1), out.minor_version); !fault.ok()) return fault;
  return ParseTargetForm(out);
}

// RFC 9112 3.2: exactly one Host in 1.1, and one that could have been meant.
Fault CheckHost(RequestHead& out) {
  const size_t count = out.fields.Count("host");
  if (count > 1) return {400, "more than one Host"};
  if (count == 0) return out.minor_version == 0 ? kOk : Fault{400, "Host is missing"};
  const std::optional<HostPort> host = SplitHostPort(*out.fields.Find("host"));
  if (!host) return {400, "malformed Host"};
  if (out.form == TargetForm::kAbsolute) {
    const uint16_t default_port = DefaultPort(out.scheme);
    if (!EqualsIgnoreCase(host->host, out.host) ||
        host->port.value_or(default_port) != out.port.value_or(default_port)) {
      return {400, "Host differs from the request target"};
    }
  } else if (out.form != TargetForm::kAuthority) {
    out.host = host->host;
    out.port = host->port;
  }
  return kOk;
}

Fault ParseRequest(std::string_view head, RequestHead& out) {
  const std::string_view line = TakeLine(head);
  if (Fault fault = ParseRequestLine(line, out); !fault.ok()) return fault;
  if (Fault fault = ParseFields(head, out.fields); !fault.ok()) return fault;
  if (Fault fault = CheckHost(out); !fault.ok()) return fault;
  if (Fault fault = FieldFraming(out.fields, out.minor_version, out.framing); !fault.ok()) return fault;
  if (out.form == TargetForm::kAuthority) {
    // CONNECT has no content (RFC 9110 9.3.6): a peer that frames some and one that tunnels it must not meet here.
    if (out.framing.kind != BodyFraming::Kind::kNone && out.framing != BodyFraming{BodyFraming::Kind::kLength, 0}) {
      return {400, "CONNECT with content"};
    }
    out.framing = {};
  }
  out.persistent = IsPersistent(out.fields, out.minor_version);
  return kOk;
}

// HTTP-version SP 3DIGIT [SP [reason-phrase]]
Fault ParseStatusLine(std::string_view line, ResponseHead& out) {
  const std::string_view version = line.substr(0, 8);
  if (Fault fault = ParseVersion(version, out.minor_version); !fault.ok()) return fault;
  line.remove_prefix(version.size());
  if (line.size() < 4 || line[0] != ' ' || (line.size() > 4 && line[4] != ' ')) return {400, "malformed status line"};
  out.status = 0;
  for (const char c : line.substr(1, 3)) {
    if (c < '0' || c > '9') return {400, "malformed status code"};
    out.status = out.status * 10 + (c - '0');
  }
  if (out.status < 100 || out.status > 599) return {400, "malformed status code"};
  out.reason = line.size() > 4 ? line.substr(5) : std::string_view();
  if (!IsFieldValue(out.reason)) return {400, "control character in the reason phrase"};
  return kOk;
}

Fault ParseResponse(std::string_view head, std::string_view request_method, ResponseHead& out) {
  const std::string_view line = TakeLine(head);
  if (Fault fault = ParseStatusLine(line, out); !fault.ok()) return fault;
  if (Fault fault = ParseFields(head, out.fields); !fault.ok()) return fault;
  if (Fault fault = FieldFraming(out.fields, out.minor_version, out.framing); !fault.ok()) return fault;
  // RFC 9112 6.3: these end with their head, whatever their fields say.
  const bool bodyless = request_method == "HEAD" || out.status < 200 || out.status == 204 || out.status == 304 ||
                        (request_method == "CONNECT" && out.status < 300);
  if (bodyless) {
    out.framing = {};
  } else if (out.framing.kind == BodyFraming::Kind::kNone) {
    out.framing.kind = BodyFraming::Kind::kUntilClose;
  }
  out.persistent = IsPersistent(out.fields, out.minor_version) && out.framing.kind != BodyFraming::Kind::kUntilClose;
  return kOk;
}

}  // namespace

std::optional<std::string_view> HeaderFields::Find(std::string_view name) const {
  for (const HeaderField& field : all()) {
    if (EqualsIgnoreCase(field.name, name)) return field.value;
  }
  return std::nullopt;
}

size_t HeaderFields::Count(std::string_view name) const {
  const std::span<const HeaderField> fields = all();
  return static_cast<size_t>(std::count_if(
      fields.begin(), fields.end(), [name](const HeaderField& field) { return EqualsIgnoreCase(field.name, name); }));
}

bool HeaderFields::HasToken(std::string_view name, std::string_view token) const {
  for (const HeaderField& field : all()) {
    if (!EqualsIgnoreCase(field.name, name)) continue;
    std::string_view rest = field.value;
    while (!rest.empty()) {
      const size_t comma = std::min(rest.find(','), rest.size());
      if (EqualsIgnoreCase(TrimOws(rest.substr(0, comma)), token)) return true;
      rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
  }
  return false;
}

bool HeaderFields::Add(HeaderField field) {
  if (count_ == fields_.size()) return false;
  fields_[count_++] = field;
  return true;
}

HeadResult ParseRequestHead(std::string_view bytes, RequestHead& out, size_t scanned) {
  const HeadResult end = FindHeadEnd(bytes, scanned);
  if (end.kind != HeadResult::Kind::kDone) return end;
  const Fault fault = ParseRequest(bytes.substr(0, end.head_bytes), out);
  return fault.ok() ? end : Error(fault);
}

HeadResult ParseResponseHead(std::string_view bytes, std::string_view request_method, ResponseHead& out,
                             size_t scanned) {
  const HeadResult end = FindHeadEnd(bytes, scanned);
  if (end.kind != HeadResult::Kind::kDone) return end;
  const Fault fault = ParseResponse(bytes.substr(0, end.head_bytes), request_method, out);
  return fault.ok() ? end : Error(fault);
}

}  // namespace tunnel::proto
