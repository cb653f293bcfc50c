// What encoder and decoder of mux/2 have to agree on beyond the layout: who may send which type, on which stream ids,
// with which flags, and how long its fields are. Internal to the codec.
#pragma once

#include <array>

#include "proto/mux_frame.h"

namespace tunnel::proto {

inline constexpr uint8_t kMuxFinFlag = 1;

enum class MuxSender : uint8_t { kEither, kClient, kServer };
// Whose stream ids a type carries.
enum class MuxIds : uint8_t { kChannel, kAny, kSenders, kReceivers };

struct MuxForm {
  std::string_view name = {};
  MuxSender sender = MuxSender::kEither;
  MuxIds ids = MuxIds::kAny;
  bool has_fin = false;
  // Of the payload; of those with bulk (kOpen, kData, kDatagram, kPad) what is before it, which is checked as it is
  // read.
  uint16_t min_bytes = 0;
  uint16_t max_bytes = 0;
};

// The shortest address is a name of one byte.
inline constexpr size_t kMuxMinAddressBytes = 1 + 1 + 1 + 2;

// By type; 0 is none.
inline constexpr std::array<MuxForm, 13> kMuxForms = {{
    {},
    {"OPEN", MuxSender::kEither, MuxIds::kSenders, false, kMuxOpenFixedBytes + kMuxMinAddressBytes,
     kMuxOpenFixedBytes + kMuxMaxAddressBytes},
    {"OPENED", MuxSender::kEither, MuxIds::kReceivers, false, kMuxOpenedFixedBytes + kMuxMinAddressBytes,
     kMuxOpenedFixedBytes + kMuxMaxAddressBytes},
    {"DATA", MuxSender::kEither, MuxIds::kAny, true, 0, 0},
    {"CREDIT", MuxSender::kEither, MuxIds::kAny, true, kMuxCreditBytes, kMuxCreditBytes},
    {"RESET", MuxSender::kEither, MuxIds::kAny, false, kMuxCodeBytes, kMuxCodeBytes + kMuxMaxReasonBytes},
    {"DATAGRAM", MuxSender::kEither, MuxIds::kAny, false, kMuxMinAddressBytes, kMuxMaxAddressBytes},
    {"PING", MuxSender::kEither, MuxIds::kChannel, false, kMuxMinOpaqueBytes, kMuxMaxOpaqueBytes},
    {"PONG", MuxSender::kEither, MuxIds::kChannel, false, kMuxMinOpaqueBytes, kMuxMaxOpaqueBytes},
    {"RESUME", MuxSender::kClient, MuxIds::kAny, true, kMuxResumeBytes, kMuxResumeBytes},
    {"RESUMED", MuxSender::kServer, MuxIds::kAny, true, kMuxResumeBytes, kMuxResumeBytes},
    {"GOAWAY", MuxSender::kEither, MuxIds::kChannel, false, kMuxCodeBytes, kMuxCodeBytes + kMuxMaxReasonBytes},
    {"PAD", MuxSender::kEither, MuxIds::kChannel, false, 0, 0},
}};

constexpr bool IsMuxType(uint8_t type) { return type != 0 && type < kMuxForms.size(); }
constexpr const MuxForm& FormOf(MuxType type) { return kMuxForms[static_cast<uint8_t>(type)]; }

constexpr bool MaySendMux(const MuxForm& form, Role sender) {
  return form.sender == MuxSender::kEither || (form.sender == MuxSender::kClient) == (sender == Role::kClient);
}

constexpr bool IsMuxKind(uint8_t kind) {
  return kind >= static_cast<uint8_t>(MuxKind::kTcp) && kind <= static_cast<uint8_t>(MuxKind::kListen);
}

// The rules of MayStandInMux() once it is known whether the host passes IsValidHost.
[[nodiscard]] bool MayStandInMux(const MuxFrame& frame, bool valid_host);

}  // namespace tunnel::proto
