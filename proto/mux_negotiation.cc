#include "proto/mux_negotiation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/check.h"
#include "core/status.h"
#include "proto/base64.h"
#include "proto/http1_grammar.h"

namespace tunnel::proto {
namespace {

constexpr std::string_view kMux2 = "mux/2";

struct Parameter {
  std::string_view name;
  std::string_view value;
};

// One protocol of a field: what it is called and what is said of it.
struct Protocol {
  std::string_view name;
  std::array<Parameter, kMuxMaxParameters> parameters;
  size_t count = 0;

  [[nodiscard]] std::optional<std::string_view> Find(std::string_view wanted) const {
    const auto all = std::span(parameters).first(count);
    const auto found = std::ranges::find(all, wanted, &Parameter::name);
    return found == all.end() ? std::nullopt : std::optional(found->value);
  }
};

// Cuts `text` at the first `separator`, which must not be its end, and returns what was before it.
std::string_view TakeUntil(char separator, std::string_view& text, bool& more) {
  const size_t at = text.find(separator);
  more = at != std::string_view::npos;
  const std::string_view part = text.substr(0, at);
  text.remove_prefix(more ? at + 1 : text.size());
  return TrimOws(part);
}

// `name` or `name/version`.
bool IsProtocolName(std::string_view name) {
  const size_t slash = name.find('/');
  return IsToken(name.substr(0, slash)) && (slash == std::string_view::npos || IsToken(name.substr(slash + 1)));
}

absl::Status ParseProtocol(std::string_view element, Protocol& out) {
  bool more = false;
  out.count = 0;
  out.name = TakeUntil(';', element, more);
  if (!IsProtocolName(out.name)) return InvalidArgument("a protocol whose name is no token");
  while (more) {
    const std::string_view parameter = TakeUntil(';', element, more);
    const size_t equals = parameter.find('=');
    if (equals == std::string_view::npos) return InvalidArgument("a parameter without a value");
    const Parameter parsed{.name = parameter.substr(0, equals), .value = parameter.substr(equals + 1)};
    if (!IsToken(parsed.name) || !IsToken(parsed.value)) return InvalidArgument("a parameter that is no token");
    if (out.Find(parsed.name)) return InvalidArgument("a parameter given twice");
    if (out.count == out.parameters.size()) return InvalidArgument("more than {} parameters", kMuxMaxParameters);
    out.parameters[out.count++] = parsed;
  }
  return absl::OkStatus();
}

// Finds mux/2 in a field. Checks all of it, and sets `protocols` to how many there are.
absl::StatusOr<std::optional<Protocol>> FindMux2(std::string_view value, size_t& protocols) {
  if (value.size() > kMuxMaxFieldValueBytes) return InvalidArgument("longer than {} bytes", kMuxMaxFieldValueBytes);
  std::optional<Protocol> found;
  protocols = 0;
  bool more = true;
  while (more) {
    if (++protocols > kMuxMaxProtocols) return InvalidArgument("more than {} protocols", kMuxMaxProtocols);
    Protocol protocol;
    TUNNEL_RETURN_IF_ERROR(ParseProtocol(TakeUntil(',', value, more), protocol));
    if (protocol.name != kMux2) continue;
    if (found) return InvalidArgument("mux/2 is given twice");
    found = protocol;
  }
  return found;
}

// A decimal number without sign or leading zeros, at most `max`.
bool ParseDecimal(std::string_view text, uint64_t max, uint64_t& out) {
  if (text.empty() || (text.size() > 1 && text[0] == '0')) return false;
  uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    const auto digit = static_cast<uint64_t>(c - '0');
    if (digit > max || value > (max - digit) / 10) return false;
    value = value * 10 + digit;
  }
  out = value;
  return true;
}

absl::Status ReadNumber(const Protocol& protocol, std::string_view name, uint64_t max, uint64_t& out) {
  const std::optional<std::string_view> text = protocol.Find(name);
  if (!text) return InvalidArgument("mux/2 without {}", name);
  if (!ParseDecimal(*text, max, out)) return InvalidArgument("{} is no number from 0 to {}", name, max);
  return absl::OkStatus();
}

}  // namespace

MuxSessionId::MuxSessionId(std::span<const uint8_t, kMuxSessionIdBytes> random) {
  std::ranges::copy(random, bytes_.begin());
}

bool MuxSessionId::Equals(const MuxSessionId& other) const {
  uint64_t a[2];
  uint64_t b[2];
  static_assert(sizeof(a) == kMuxSessionIdBytes);
  std::memcpy(a, bytes_.data(), sizeof(a));
  std::memcpy(b, other.bytes_.data(), sizeof(b));
  uint64_t first = a[0] ^ b[0];
  uint64_t second = a[1] ^ b[1];
  // Hides the values from the compiler, which else might look at the second half only where the first is equal.
  asm("" : "+r"(first), "+r"(second));
  return (first | second) == 0;
}

absl::StatusOr<std::optional<MuxOffer>> ParseMuxOffer(std::string_view value) {
  size_t protocols = 0;
  const absl::StatusOr<std::optional<Protocol>> mux = FindMux2(value, protocols);
  if (!mux.ok()) return mux.status();
  if (!mux->has_value()) return std::optional<MuxOffer>();
  const Protocol& protocol = **mux;
  const std::optional<std::string_view> text = protocol.Find("session");
  if (!text) return InvalidArgument("mux/2 without session");
  const std::optional<std::vector<uint8_t>> session = Base64UrlDecode(*text);
  if (!session || session->size() != kMuxSessionIdBytes) {
    return InvalidArgument("session is not {} bytes in base64url", kMuxSessionIdBytes);
  }
  MuxOffer offer{.session = MuxSessionId(std::span(*session).first<kMuxSessionIdBytes>())};
  TUNNEL_RETURN_IF_ERROR(ReadNumber(protocol, "window", kMuxMaxInitialWindow, offer.window));
  return offer;
}

absl::StatusOr<MuxAnswer> ParseMuxAnswer(std::string_view value) {
  size_t protocols = 0;
  const absl::StatusOr<std::optional<Protocol>> mux = FindMux2(value, protocols);
  if (!mux.ok()) return mux.status();
  if (!mux->has_value() || protocols != 1) return InvalidArgument("an answer that does not choose mux/2 alone");
  const Protocol& protocol = **mux;
  MuxAnswer answer;
  TUNNEL_RETURN_IF_ERROR(ReadNumber(protocol, "window", kMuxMaxInitialWindow, answer.window));
  TUNNEL_RETURN_IF_ERROR(ReadNumber(protocol, "resume", kMuxMaxResumeSeconds, answer.resume_seconds));
  if (protocol.Find("epoch")) TUNNEL_RETURN_IF_ERROR(ReadNumber(protocol, "epoch", UINT64_MAX, answer.epoch));
  return answer;
}

std::string FormatMuxOffer(const MuxOffer& offer) {
  TUNNEL_CHECK(offer.window <= kMuxMaxInitialWindow);
  return fmt::format("{}; session={}; window={}", kMux2, Base64UrlEncode(offer.session.Reveal()), offer.window);
}

std::string FormatMuxAnswer(const MuxAnswer& answer) {
  TUNNEL_CHECK(answer.window <= kMuxMaxInitialWindow && answer.resume_seconds <= kMuxMaxResumeSeconds);
  return fmt::format("{}; window={}; resume={}; epoch={}", kMux2, answer.window, answer.resume_seconds, answer.epoch);
}

}  // namespace tunnel::proto
