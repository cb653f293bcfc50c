#include "proto/socks4.h"

#include "core/check.h"

namespace tunnel::proto {
namespace {

constexpr uint8_t kConnect = 1;

}  // namespace

std::array<uint8_t, 8> EncodeSocks4Reply(Socks4Reply reply) { return {0, static_cast<uint8_t>(reply)}; }

void Socks4Server::Feed(std::span<const uint8_t> input) {
  TUNNEL_CHECK(consumed_ == input_.size());
  input_ = input;
  consumed_ = 0;
}

Socks4Event Socks4Server::Fail(bool has_reply, std::string_view reason) {
  state_ = State::kDone;
  return {.kind = Socks4Event::Kind::kError, .has_reply = has_reply, .reason = reason};
}

Socks4Event Socks4Server::Request(std::string host) {
  state_ = State::kDone;
  const auto port = static_cast<uint16_t>(head_[2] << 8 | head_[3]);
  if (head_[1] != kConnect) return Fail(true, "a command other than CONNECT");
  if (port == 0) return Fail(true, "port 0");
  if (!IsValidHost(host)) return Fail(true, "the host name is not valid");
  return {.kind = Socks4Event::Kind::kRequest, .target = {.host = std::move(host), .port = port}};
}

// What is wrong with a whole message is said at its end: a close with bytes unread would reset the connection and could
// take our reply with it.
Socks4Event Socks4Server::Next() {
  if (state_ == State::kDone) return {.kind = Socks4Event::Kind::kPaused};
  while (consumed_ < input_.size()) {
    const uint8_t byte = input_[consumed_++];
    switch (state_) {
      case State::kHead:
        if (head_size_ == 0 && byte != kSocks4Version) return Fail(false, "not SOCKS version 4");
        head_[head_size_++] = byte;
        if (head_size_ == head_.size()) state_ = State::kUserId;
        break;
      case State::kUserId:
        if (byte == 0) {
          const bool has_name = head_[4] == 0 && head_[5] == 0 && head_[6] == 0 && head_[7] != 0;
          if (!has_name) return Request(ToString(IpAddress::V4(std::span<const uint8_t>(head_).subspan<4, 4>())));
          state_ = State::kName;
        } else if (++user_id_bytes_ > kSocks4MaxUserIdBytes) {
          return Fail(true, "the user id is too long");
        }
        break;
      case State::kName:
        if (byte == 0) return Request(std::move(name_));
        if (name_.size() == kMaxHostBytes) return Fail(true, "the host name is too long");
        name_ += static_cast<char>(byte);
        break;
      case State::kDone:
        break;
    }
  }
  return {};
}

}  // namespace tunnel::proto
