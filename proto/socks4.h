// The server's side of SOCKS4 and SOCKS4a (the memos of Ying-Da Lee and NEC, 1992 and 1995; no RFC).
//
//   request   VN CD PORT(2) IP(4) USERID... 0 [NAME... 0]     NAME where IP is 0.0.0.x with x not 0: SOCKS4a
//   reply     0 CODE PORT(2) IP(4)
//
// One message each way, then the application's bytes follow with no border. The user id proves nothing: there is no
// password, so a listener with credentials refuses this protocol.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "proto/codec_limits.h"
#include "proto/target.h"

namespace tunnel::proto {

inline constexpr uint8_t kSocks4Version = 4;

enum class Socks4Reply : uint8_t {
  kGranted = 0x5a,
  kRejected = 0x5b,      // rejected or failed
  kUserRejected = 0x5d,  // the user is not who it says
};

// Port and address of the reply are ignored by clients of CONNECT: zero.
std::array<uint8_t, 8> EncodeSocks4Reply(Socks4Reply reply);

struct Socks4Event {
  enum class Kind {
    kNeedMore,  // the fed bytes are all consumed: feed further ones
    kRequest,   // CONNECT to `target`; what follows in the input is the stream's
    kError,     // final: the caller sends `reply` when `has_reply`, closes
    kPaused,    // the request or the error has been handed out
  };
  Kind kind = Kind::kNeedMore;
  Target target;
  bool has_reply = false;
  Socks4Reply reply = Socks4Reply::kRejected;
  std::string_view reason;  // kError: a literal
};

// Owner's thread only. Feed() and Next() as in Socks5Server. User ids and names over 255 bytes are refused before they
// have ended.
class Socks4Server {
 public:
  void Feed(std::span<const uint8_t> input);
  [[nodiscard]] Socks4Event Next();
  // How many of the bytes last fed have been taken.
  size_t consumed() const { return consumed_; }

 private:
  enum class State : uint8_t { kHead, kUserId, kName, kDone };

  Socks4Event Fail(bool has_reply, std::string_view reason);
  Socks4Event Request(std::string host);

  State state_ = State::kHead;
  std::span<const uint8_t> input_;
  size_t consumed_ = 0;
  // VN CD PORT IP
  std::array<uint8_t, 8> head_{};
  size_t head_size_ = 0;
  size_t user_id_bytes_ = 0;
  std::string name_;
};

}  // namespace tunnel::proto
