#include "proto/mux_decoder.h"

#include "core/check.h"
#include "proto/mux_wire.h"
#include "proto/socks5_address.h"
#include "proto/utf8.h"

namespace tunnel::proto {
namespace {

constexpr std::string_view kPayloadTooLong = "a payload over 64 KiB";
constexpr std::string_view kFieldsTooShort = "payload too short for its type";

bool IsLimit(uint64_t limit) { return limit <= kMuxMaxOffset; }

}  // namespace

void MuxDecoder::Begin(Opcode opcode) {
  if (failed()) return;
  TUNNEL_CHECK(state_ == State::kIdle && (opcode == Opcode::kText || opcode == Opcode::kBinary));
  input_.StartMessage();
  finished_ = false;
  state_ = State::kHeader;
  if (opcode == Opcode::kText) (void)Fail("a text message");
}

void MuxDecoder::Feed(std::span<const uint8_t> piece) {
  if (failed()) return;
  TUNNEL_CHECK(state_ != State::kIdle && !finished_);
  input_.Feed(piece);
}

MuxDecoder::Event MuxDecoder::Next() {
  switch (state_) {
    case State::kIdle:
      return {};
    case State::kHeader:
      return TakeHeader();
    case State::kOpen:
      return TakeOpen();
    case State::kDatagram:
      return TakeDatagram();
    case State::kFields:
      return TakeFields();
    case State::kPayload:
      return TakePayload();
    case State::kEnd:
      state_ = State::kIdle;
      return {.kind = EventKind::kEnd};
    case State::kIgnored:
      return TakeIgnored();
    case State::kFailed:
      break;
  }
  return {.kind = EventKind::kError, .reason = reason_};
}

MuxDecoder::Event MuxDecoder::Fail(std::string_view reason) {
  state_ = State::kFailed;
  reason_ = reason;
  return {.kind = EventKind::kError, .reason = reason_};
}

MuxDecoder::Event MuxDecoder::NeedMore(std::string_view otherwise) { return finished_ ? Fail(otherwise) : Event{}; }

MuxDecoder::Event MuxDecoder::TakeHeader() {
  if (!input_.Gather(kMuxHeaderBytes)) return NeedMore("shorter than a header");
  if (const std::string_view wrong = ReadHeader(); !wrong.empty()) return Fail(wrong);
  switch (state_) {
    case State::kPayload:
      return {.kind = EventKind::kFrame};
    case State::kOpen:
      return TakeOpen();
    case State::kDatagram:
      return TakeDatagram();
    case State::kIgnored:
      return TakeIgnored();
    default:
      return TakeFields();
  }
}

std::string_view MuxDecoder::ReadHeader() {
  const uint8_t* header = input_.message().data();
  if ((header[2] | header[3]) != 0) return "the reserved bytes are not zero";
  payload_bytes_ = 0;
  if (header[0] >= kMuxFirstIgnoredType) {
    state_ = State::kIgnored;
    return {};
  }
  if (!IsMuxType(header[0])) return "unknown type of frame";
  const auto type = static_cast<MuxType>(header[0]);
  const MuxForm& form = FormOf(type);
  const Role sender = PeerOf(role_);
  const uint32_t stream = LoadBig32(header + 4);
  if (!MaySendMux(form, sender)) return "a frame that is not this side's to send";
  if ((header[1] & ~(form.has_fin ? kMuxFinFlag : 0)) != 0) return "a flag that its type does not have";
  if ((stream == 0) != (form.ids == MuxIds::kChannel)) {
    return stream == 0 ? "stream id 0 in a frame of a stream" : "a stream id in a frame of the channel";
  }
  if ((form.ids == MuxIds::kSenders && !IsMuxStreamOf(sender, stream)) ||
      (form.ids == MuxIds::kReceivers && !IsMuxStreamOf(role_, stream))) {
    return "a stream id of the wrong side";
  }
  frame_ = {.type = type, .fin = header[1] != 0, .stream = stream};
  switch (type) {
    case MuxType::kData:
      state_ = State::kPayload;
      break;
    case MuxType::kOpen:
      state_ = State::kOpen;
      break;
    case MuxType::kDatagram:
      state_ = State::kDatagram;
      break;
    case MuxType::kPad:
      state_ = State::kIgnored;
      break;
    default:
      state_ = State::kFields;
  }
  return {};
}

std::span<const uint8_t> MuxDecoder::GatherAddress(size_t fixed, Event& event) {
  const size_t at = kMuxHeaderBytes + fixed;
  if (!input_.Gather(at + kSocks5AddressStartBytes)) {
    event = NeedMore(kFieldsTooShort);
    return {};
  }
  const std::span<const uint8_t> message = input_.message();
  const size_t size = Socks5AddressBytes(message.subspan(at).first<kSocks5AddressStartBytes>());
  if (size == 0) {
    event = Fail("unknown type of address");
    return {};
  }
  if (!input_.Gather(at + size)) {
    event = NeedMore(kFieldsTooShort);
    return {};
  }
  return message.subspan(at, size);
}

MuxDecoder::Event MuxDecoder::TakeOpen() {
  Event event;
  const std::span<const uint8_t> address = GatherAddress(kMuxOpenFixedBytes, event);
  if (address.empty()) return event;
  if (const std::string_view wrong = ReadOpen(address); !wrong.empty()) return Fail(wrong);
  if (frame_.kind == MuxKind::kTcp && frame_.generation == 0) {
    payload_bytes_ = fields().size();
    state_ = State::kPayload;
    return {.kind = EventKind::kFrame};
  }
  if (input_.available() > 0) return Fail("first bytes in an OPEN that has none");
  if (!finished_) return {};
  state_ = State::kEnd;
  return {.kind = EventKind::kFrame};
}

std::string_view MuxDecoder::ReadOpen(std::span<const uint8_t> address) {
  const uint8_t* payload = fields().data();
  if (!IsMuxKind(payload[0])) return "unknown kind of stream";
  frame_.kind = static_cast<MuxKind>(payload[0]);
  frame_.generation = LoadBig32(payload + 1);
  frame_.limit = LoadBig64(payload + 5);
  if (role_ == Role::kClient && frame_.kind == MuxKind::kListen) return "a server asks for a listener";
  if (role_ == Role::kClient && frame_.generation != 0) return "a generation from a server";
  if (!IsLimit(frame_.limit)) return "limit out of range";
  return ReadAddress(address);
}

MuxDecoder::Event MuxDecoder::TakeDatagram() {
  Event event;
  const std::span<const uint8_t> address = GatherAddress(0, event);
  if (address.empty()) return event;
  if (const std::string_view wrong = ReadAddress(address); !wrong.empty()) return Fail(wrong);
  payload_bytes_ = fields().size();
  state_ = State::kPayload;
  return {.kind = EventKind::kFrame};
}

std::string_view MuxDecoder::ReadAddress(std::span<const uint8_t> address) {
  const bool valid_host = ReadSocks5Address(address, address_);
  frame_.address = &address_;
  if (!MayStandInMux(frame_, valid_host)) return "an address that cannot be";
  // The encoder never writes it, and one target has one form.
  if (address[0] == kSocks5NameAddress && ParseIpAddress(address_.host)) return "an IP address as a name";
  return {};
}

MuxDecoder::Event MuxDecoder::TakeFields() {
  const MuxForm& form = FormOf(frame_.type);
  if (input_.Gather(kMuxHeaderBytes + form.max_bytes) && input_.available() > 0) {
    return Fail("payload too long for its type");
  }
  if (!finished_) return {};
  if (fields().size() < form.min_bytes) return Fail(kFieldsTooShort);
  if (const std::string_view wrong = ReadFields(); !wrong.empty()) return Fail(wrong);
  state_ = State::kEnd;
  return {.kind = EventKind::kFrame};
}

std::string_view MuxDecoder::ReadFields() {
  const std::span<const uint8_t> payload = fields();
  switch (frame_.type) {
    case MuxType::kOpened:
      return ReadOpened();
    case MuxType::kCredit:
      frame_.offset = LoadBig64(payload.data());
      frame_.limit = LoadBig64(payload.data() + 8);
      break;
    case MuxType::kResume:
    case MuxType::kResumed:
      frame_.generation = LoadBig32(payload.data());
      frame_.offset = LoadBig64(payload.data() + 4);
      frame_.limit = LoadBig64(payload.data() + 12);
      break;
    case MuxType::kReset:
    case MuxType::kGoAway: {
      frame_.code = LoadBig32(payload.data());
      const auto reason = payload.subspan(kMuxCodeBytes);
      frame_.reason = {reinterpret_cast<const char*>(reason.data()), reason.size()};
      return IsUtf8(reason) ? std::string_view() : "a reason that is not UTF-8";
    }
    default:
      frame_.opaque = payload;
      return {};
  }
  if (!IsLimit(frame_.limit)) return "limit out of range";
  if (frame_.offset > frame_.limit) return "more bytes taken than the limit allows";
  return {};
}

std::string_view MuxDecoder::ReadOpened() {
  const std::span<const uint8_t> payload = fields();
  const std::span<const uint8_t> address = payload.subspan(kMuxOpenedFixedBytes);
  const size_t size = Socks5AddressBytes(address.first<kSocks5AddressStartBytes>());
  if (size == 0) return "unknown type of address";
  if (size != address.size()) return size < address.size() ? "payload too long for its type" : kFieldsTooShort;
  frame_.status = payload[0];
  frame_.limit = LoadBig64(payload.data() + 1);
  if (!IsLimit(frame_.limit)) return "limit out of range";
  return ReadAddress(address);
}

MuxDecoder::Event MuxDecoder::TakePayload() {
  const std::span<const uint8_t> payload = input_.Take(kMuxMaxPayloadBytes - payload_bytes_);
  if (!payload.empty()) {
    payload_bytes_ += payload.size();
    return {.kind = EventKind::kPayload, .payload = payload};
  }
  if (input_.available() > 0) return Fail(kPayloadTooLong);
  if (!finished_) return {};
  if (frame_.type == MuxType::kData && payload_bytes_ == 0 && !frame_.fin) return Fail("DATA without bytes or FIN");
  state_ = State::kIdle;
  return {.kind = EventKind::kEnd};
}

MuxDecoder::Event MuxDecoder::TakeIgnored() {
  payload_bytes_ += input_.Take(kMuxMaxPayloadBytes - payload_bytes_).size();
  if (input_.available() > 0) return Fail(kPayloadTooLong);
  if (finished_) state_ = State::kIdle;
  return {};
}

}  // namespace tunnel::proto
