#include "proto/legacy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "proto/target.h"

namespace tunnel::proto {

struct LegacyForm {
  // What follows the name and the colon.
  enum class Layout : uint8_t {
    kId,               // ID
    kIdChannel,        // ID|CHANNEL
    kIdTarget,         // ID|HOST:PORT
    kIdTargetPayload,  // ID|HOST:PORT|any
    kIdPayload,        // ID|any
    kIdText,           // ID|text
    kText,             // text
  };

  std::string_view name;
  LegacyType type;
  Role reader;
  bool text;  // which frames may carry it
  bool binary;
  Layout layout;
};

namespace {

using Layout = LegacyForm::Layout;

// The bulk types first: the table is searched in order.
constexpr LegacyForm kForms[] = {
    {"DATA", LegacyType::kData, Role::kServer, true, true, Layout::kIdPayload},
    {"DATA", LegacyType::kData, Role::kClient, false, true, Layout::kIdPayload},
    {"UDP_DATA", LegacyType::kUdpData, Role::kServer, false, true, Layout::kIdPayload},
    {"UDP_DATA", LegacyType::kUdpData, Role::kClient, false, true, Layout::kIdTargetPayload},
    {"CLAIM", LegacyType::kClaim, Role::kServer, true, false, Layout::kIdChannel},
    {"CLAIM_ACK", LegacyType::kClaimAck, Role::kClient, true, false, Layout::kIdChannel},
    {"TCP", LegacyType::kTcp, Role::kServer, true, false, Layout::kIdTargetPayload},
    {"CONNECTED", LegacyType::kConnected, Role::kClient, true, false, Layout::kId},
    {"CLOSE", LegacyType::kClose, Role::kServer, true, false, Layout::kId},
    {"CLOSE", LegacyType::kClose, Role::kClient, true, false, Layout::kId},
    {"ERROR", LegacyType::kError, Role::kClient, true, false, Layout::kText},
    {"UDP_CONNECT", LegacyType::kUdpConnect, Role::kServer, true, false, Layout::kIdTarget},
    {"UDP_CONNECTED", LegacyType::kUdpConnected, Role::kClient, true, false, Layout::kId},
    {"UDP_ERROR", LegacyType::kUdpError, Role::kClient, true, false, Layout::kIdText},
    {"UDP_CLOSE", LegacyType::kUdpClose, Role::kServer, true, false, Layout::kId},
};
static_assert(std::ranges::all_of(kForms, [](const LegacyForm& f) { return f.name.size() <= kMaxLegacyNameBytes; }));

constexpr bool IsPrintable(char c) { return c > ' ' && c <= '~'; }
constexpr bool IsIdByte(char c) { return IsPrintable(c) && c != '|'; }
constexpr bool IsHostByte(char c) { return IsPrintable(c) && c != '|' && c != '[' && c != ']'; }

// A decimal number without sign or leading zeros, at most `max`.
std::optional<uint32_t> ParseNumber(std::string_view text, uint32_t max) {
  if (text.empty() || (text.size() > 1 && text[0] == '0')) return std::nullopt;
  uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<uint64_t>(c - '0');
    if (value > max) return std::nullopt;
  }
  return static_cast<uint32_t>(value);
}

// HOST:PORT. `bare_ipv6` is for UDP_DATA, whose IPv6 hosts come without brackets.
bool ParseTarget(std::string_view target, bool bare_ipv6, LegacyHead& head) {
  const size_t colon = target.rfind(':');
  if (colon == std::string_view::npos) return false;
  std::string_view host = target.substr(0, colon);
  const auto port = ParseNumber(target.substr(colon + 1), 0xFFFF);
  if (!port || *port == 0) return false;
  const bool has_colon = host.find(':') != std::string_view::npos;
  if (host.starts_with('[') && host.ends_with(']')) {
    if (!has_colon) return false;
    host = host.substr(1, host.size() - 2);
  } else if (has_colon && !bare_ipv6) {
    return false;
  }
  if (!IsLegacyHost(host)) return false;
  head.host = host;
  head.port = static_cast<uint16_t>(*port);
  return true;
}

}  // namespace

ConnectionId ConnectionId::FromRandom(std::span<const uint8_t, 16> random) {
  constexpr std::string_view kHex = "0123456789abcdef";
  ConnectionId id;
  size_t at = 0;
  for (size_t i = 0; i < random.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) id.text[at++] = '-';
    unsigned byte = random[i];
    if (i == 6) byte = (byte & 0x0F) | 0x40;  // version 4
    if (i == 8) byte = (byte & 0x3F) | 0x80;  // variant 10
    id.text[at++] = kHex[byte >> 4];
    id.text[at++] = kHex[byte & 15];
  }
  return id;
}

std::optional<ConnectionId> ConnectionId::Parse(std::string_view text) {
  if (text.size() != kConnectionIdBytes || !std::ranges::all_of(text, IsIdByte)) return std::nullopt;
  ConnectionId id;
  std::ranges::copy(text, id.text.begin());
  return id;
}

bool IsLegacyHost(std::string_view host) {
  return !host.empty() && host.size() <= kMaxLegacyHostBytes && std::ranges::all_of(host, IsHostByte);
}

void LegacyDecoder::Begin(Opcode opcode) {
  TUNNEL_CHECK(opcode == Opcode::kText || opcode == Opcode::kBinary);
  state_ = State::kName;
  finished_ = false;
  opcode_ = opcode;
  form_ = nullptr;
  input_ = {};
  id_have_ = 0;
  field_size_ = 0;
  head_ = {};
}

void LegacyDecoder::Feed(std::span<uint8_t> piece) {
  TUNNEL_CHECK(input_.empty() && state_ != State::kIdle && !finished_);
  if (state_ != State::kSwallow) input_ = piece;
}

LegacyDecoder::Event LegacyDecoder::Malformed(std::string_view why) {
  const bool id_known = state_ == State::kTarget || state_ == State::kChannel;
  state_ = State::kSwallow;
  input_ = {};
  return {.kind = EventKind::kMalformed, .reason = why, .id_known = id_known};
}

LegacyDecoder::Event LegacyDecoder::Head() {
  // A layout without payload gets here only at the end of its message, so that kEnd follows at once.
  state_ = State::kPayload;
  return {.kind = EventKind::kHead};
}

LegacyDecoder::Field LegacyDecoder::Collect(std::optional<char> delimiter, size_t limit_bytes) {
  size_t count = input_.size();
  bool found = false;
  if (delimiter && count > 0) {
    // Bounded: a delimiter further away than the limit is not looked for.
    const size_t window = std::min(count, limit_bytes - field_size_ + 1);
    const void* at = std::memchr(input_.data(), *delimiter, window);
    found = at != nullptr;
    if (found) count = static_cast<size_t>(static_cast<const uint8_t*>(at) - input_.data());
  }
  if (count > limit_bytes - field_size_) return Field::kTooLong;
  if (count > 0) std::memcpy(field_.data() + field_size_, input_.data(), count);
  field_size_ += count;
  input_ = input_.subspan(count + (found ? 1 : 0));
  return found || (!delimiter && finished_) ? Field::kComplete : Field::kPartial;
}

std::optional<LegacyDecoder::Event> LegacyDecoder::TakeName() {
  const Field field = Collect(':', kMaxLegacyNameBytes);
  if (field == Field::kTooLong || (field == Field::kPartial && finished_)) return Malformed("no known message name");
  if (field == Field::kPartial) return Event{};
  const std::string_view name(field_.data(), field_size_);
  const auto* form = std::ranges::find_if(kForms, [&](const auto& f) { return f.reader == role_ && f.name == name; });
  if (form == std::end(kForms)) return Malformed("no known message name");
  if (!(opcode_ == Opcode::kText ? form->text : form->binary)) return Malformed("message in the wrong kind of frame");
  form_ = form;
  head_.type = form->type;
  field_size_ = 0;
  state_ = form->layout == Layout::kText ? State::kText : State::kId;
  return std::nullopt;
}

std::optional<LegacyDecoder::Event> LegacyDecoder::TakeId() {
  const size_t count = std::min(input_.size(), kConnectionIdBytes - id_have_);
  if (count > 0) std::memcpy(head_.id.text.data() + id_have_, input_.data(), count);
  id_have_ += count;
  input_ = input_.subspan(count);
  if (id_have_ < kConnectionIdBytes) return finished_ ? Malformed("connection id too short") : Event{};
  if (!std::ranges::all_of(head_.id.text, IsIdByte)) return Malformed("byte not allowed in a connection id");
  state_ = State::kAfterId;
  return std::nullopt;
}

std::optional<LegacyDecoder::Event> LegacyDecoder::TakeSeparator() {
  if (form_->layout == Layout::kId) {
    if (!input_.empty()) return Malformed("bytes after the connection id");
    return finished_ ? Head() : Event{};
  }
  if (input_.empty()) return finished_ ? Malformed("message ends after its connection id") : Event{};
  if (input_.front() != '|') return Malformed("no separator after the connection id");
  input_ = input_.subspan(1);
  switch (form_->layout) {
    case Layout::kIdPayload:
      return Head();
    case Layout::kIdChannel:
      state_ = State::kChannel;
      break;
    case Layout::kIdText:
      state_ = State::kText;
      break;
    default:
      state_ = State::kTarget;
  }
  return std::nullopt;
}

LegacyDecoder::Event LegacyDecoder::TakeTarget() {
  const bool has_payload = form_->layout == Layout::kIdTargetPayload;
  const Field field = Collect(has_payload ? std::optional<char>('|') : std::nullopt, kMaxLegacyTargetBytes);
  if (field == Field::kTooLong) return Malformed("target too long");
  if (field == Field::kPartial) return finished_ ? Malformed("no separator after the target") : Event{};
  const std::string_view target(field_.data(), field_size_);
  if (head_.type == LegacyType::kTcp && IsUnixTarget(target)) {
    head_.host = target;
    return Head();
  }
  if (!ParseTarget(target, head_.type == LegacyType::kUdpData, head_)) {
    return Malformed("target is not HOST:PORT");
  }
  return Head();
}

LegacyDecoder::Event LegacyDecoder::TakeChannel() {
  constexpr size_t kMaxDigits = 10;
  const Field field = Collect(std::nullopt, kMaxDigits);
  if (field == Field::kPartial) return {};
  const auto channel = field == Field::kTooLong ? std::nullopt : ParseNumber({field_.data(), field_size_}, UINT32_MAX);
  if (!channel) return Malformed("channel is not a number");
  head_.channel = *channel;
  return Head();
}

LegacyDecoder::Event LegacyDecoder::TakeText() {
  const auto kept = input_.first(std::min(input_.size(), kMaxLegacyTextBytes - field_size_));
  if (!kept.empty()) std::memcpy(field_.data() + field_size_, kept.data(), kept.size());
  field_size_ += kept.size();
  input_ = {};
  if (!finished_) return {};
  head_.text = {field_.data(), field_size_};
  return Head();
}

LegacyDecoder::Event LegacyDecoder::TakePayload() {
  if (!input_.empty()) {
    const auto payload = input_;
    input_ = {};
    return {.kind = EventKind::kPayload, .payload = payload};
  }
  if (!finished_) return {};
  state_ = State::kIdle;
  return {.kind = EventKind::kEnd};
}

LegacyDecoder::Event LegacyDecoder::Next() {
  for (;;) {
    std::optional<Event> event;
    switch (state_) {
      case State::kIdle:
      case State::kSwallow:
        return {};
      case State::kName:
        event = TakeName();
        break;
      case State::kId:
        event = TakeId();
        break;
      case State::kAfterId:
        event = TakeSeparator();
        break;
      case State::kTarget:
        return TakeTarget();
      case State::kChannel:
        return TakeChannel();
      case State::kText:
        return TakeText();
      case State::kPayload:
        return TakePayload();
    }
    if (event) return *event;
  }
}

Opcode LegacyOpcodeOf(LegacyType type) {
  return type == LegacyType::kData || type == LegacyType::kUdpData ? Opcode::kBinary : Opcode::kText;
}

std::optional<size_t> EncodeLegacyHead(std::span<uint8_t> out, Role role, const LegacyHead& head) {
  TUNNEL_CHECK(out.size() >= kMaxLegacyHeadBytes);
  const auto* form = std::ranges::find_if(
      kForms, [&](const LegacyForm& f) { return f.reader == PeerOf(role) && f.type == head.type; });
  TUNNEL_CHECK(form != std::end(kForms));
  const Layout layout = form->layout;
  const bool has_target = layout == Layout::kIdTarget || layout == Layout::kIdTargetPayload;
  const bool unix_target = head.type == LegacyType::kTcp && head.port == 0 && IsUnixTarget(head.host);
  if (has_target && !unix_target && (!IsLegacyHost(head.host) || head.port == 0)) return std::nullopt;

  auto* at = reinterpret_cast<char*>(out.data());
  const auto put = [&](std::string_view text) { at = std::ranges::copy(text, at).out; };
  put(form->name);
  put(":");
  if (layout != Layout::kText) put(head.id.view());
  if (layout != Layout::kText && layout != Layout::kId) put("|");
  if (unix_target) {
    put(head.host);
  } else if (has_target) {
    const bool brackets = head.type != LegacyType::kUdpData && head.host.find(':') != std::string_view::npos;
    at = brackets ? fmt::format_to(at, "[{}]:{}", head.host, head.port)
                  : fmt::format_to(at, "{}:{}", head.host, head.port);
  }
  if (layout == Layout::kIdTargetPayload) put("|");
  if (layout == Layout::kIdChannel) at = fmt::format_to(at, "{}", head.channel);
  if (layout == Layout::kText || layout == Layout::kIdText) put(head.text.substr(0, kMaxLegacyTextBytes));
  return static_cast<size_t>(at - reinterpret_cast<char*>(out.data()));
}

size_t EncodeLegacyDataHead(std::span<uint8_t> out, const ConnectionId& id) {
  TUNNEL_CHECK(out.size() >= kLegacyDataHeadBytes);
  std::memcpy(out.data(), "DATA:", 5);
  std::memcpy(out.data() + 5, id.text.data(), id.text.size());
  out[kLegacyDataHeadBytes - 1] = '|';
  return kLegacyDataHeadBytes;
}

}  // namespace tunnel::proto
