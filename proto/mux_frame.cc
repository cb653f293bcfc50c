#include "proto/mux_frame.h"

#include <algorithm>

#include "core/check.h"
#include "proto/mux_wire.h"
#include "proto/socks5_address.h"
#include "proto/utf8.h"

namespace tunnel::proto {
namespace {

// Writes forward into memory that is known to be large enough.
class HeadWriter {
 public:
  explicit HeadWriter(uint8_t* to) : at_(to) {}

  void U8(uint8_t value) { *at_++ = value; }
  void U32(uint32_t value) {
    StoreBig32(at_, value);
    at_ += 4;
  }
  void U64(uint64_t value) {
    StoreBig64(at_, value);
    at_ += 8;
  }
  void Bytes(std::span<const uint8_t> bytes) { at_ = std::ranges::copy(bytes, at_).out; }
  void Text(std::string_view text) { at_ = std::ranges::copy(text, at_).out; }
  void Address(const Target& target) { at_ += WriteSocks5Address({at_, kMuxMaxAddressBytes}, target); }
  [[nodiscard]] uint8_t* at() const { return at_; }

 private:
  uint8_t* at_;
};

// What a session must never get wrong; none of it depends on what a peer sent.
void CheckFrame(Role role, const MuxForm& form, const MuxFrame& frame) {
  TUNNEL_CHECK(MaySendMux(form, role));
  TUNNEL_CHECK(!frame.fin || form.has_fin);
  TUNNEL_CHECK((frame.stream == 0) == (form.ids == MuxIds::kChannel));
  TUNNEL_CHECK(form.ids != MuxIds::kSenders || IsMuxStreamOf(role, frame.stream));
  TUNNEL_CHECK(form.ids != MuxIds::kReceivers || IsMuxStreamOf(PeerOf(role), frame.stream));
  TUNNEL_CHECK(frame.offset <= frame.limit && frame.limit <= kMuxMaxOffset);
  if (frame.type == MuxType::kOpen) {
    TUNNEL_CHECK(role == Role::kClient || (frame.kind != MuxKind::kListen && frame.generation == 0));
  }
  if (frame.type == MuxType::kPing || frame.type == MuxType::kPong) {
    TUNNEL_CHECK(frame.opaque.size() >= kMuxMinOpaqueBytes && frame.opaque.size() <= kMuxMaxOpaqueBytes);
  }
}

}  // namespace

std::string_view NameOf(MuxType type) {
  const auto value = static_cast<uint8_t>(type);
  return IsMuxType(value) ? kMuxForms[value].name : "?";
}

bool MayStandInMux(const MuxFrame& frame, bool valid_host) {
  const Target& target = *frame.address;
  const bool is_unix = !valid_host && target.port == 0 && IsUnixTarget(target.host);
  switch (frame.type) {
    case MuxType::kDatagram:
      return valid_host && target.port != 0;
    case MuxType::kOpened:
      return valid_host || is_unix;
    default:
      break;
  }
  switch (frame.kind) {
    case MuxKind::kTcp:
      return valid_host ? target.port != 0 : is_unix;
    case MuxKind::kUdp:
      return valid_host;
    case MuxKind::kListen:
      return valid_host || is_unix;
  }
  return false;
}

bool MayStandInMux(const MuxFrame& frame) { return MayStandInMux(frame, IsValidHost(frame.address->host)); }

std::optional<size_t> EncodeMuxFrame(std::span<uint8_t> out, Role role, const MuxFrame& frame) {
  TUNNEL_CHECK(out.size() >= kMuxMaxHeadBytes && IsMuxType(static_cast<uint8_t>(frame.type)));
  CheckFrame(role, FormOf(frame.type), frame);
  HeadWriter writer(out.data());
  writer.U32(static_cast<uint32_t>(frame.type) << 24 | (frame.fin ? uint32_t{kMuxFinFlag} << 16 : 0));
  writer.U32(frame.stream);
  switch (frame.type) {
    case MuxType::kOpen:
      if (!MayStandInMux(frame)) return std::nullopt;
      writer.U8(static_cast<uint8_t>(frame.kind));
      writer.U32(frame.generation);
      writer.U64(frame.limit);
      writer.Address(*frame.address);
      break;
    case MuxType::kOpened:
      if (!MayStandInMux(frame)) return std::nullopt;
      writer.U8(frame.status);
      writer.U64(frame.limit);
      writer.Address(*frame.address);
      break;
    case MuxType::kDatagram:
      if (!MayStandInMux(frame)) return std::nullopt;
      writer.Address(*frame.address);
      break;
    case MuxType::kCredit:
      writer.U64(frame.offset);
      writer.U64(frame.limit);
      break;
    case MuxType::kResume:
    case MuxType::kResumed:
      writer.U32(frame.generation);
      writer.U64(frame.offset);
      writer.U64(frame.limit);
      break;
    case MuxType::kReset:
    case MuxType::kGoAway:
      writer.U32(frame.code);
      writer.Text(frame.reason.substr(0, Utf8PrefixBytes(frame.reason, kMuxMaxReasonBytes)));
      break;
    case MuxType::kPing:
    case MuxType::kPong:
      writer.Bytes(frame.opaque);
      break;
    case MuxType::kData:
    case MuxType::kPad:
      break;
  }
  return static_cast<size_t>(writer.at() - out.data());
}

}  // namespace tunnel::proto
