// Datagrams that wait until their target, or the way to it, is known: few, and not for long.
#pragma once

#include <deque>
#include <utility>

#include "core/slice.h"
#include "net/limits.h"

namespace tunnel::net {

class WaitingDatagrams {
 public:
  // False when there is no room.
  [[nodiscard]] bool Add(core::Slice datagram) {
    if (datagrams_.size() >= kWaitingDatagrams || bytes_ + datagram.size() > kWaitingDatagramBytes) return false;
    bytes_ += datagram.size();
    datagrams_.push_back(std::move(datagram));
    return true;
  }
  [[nodiscard]] std::deque<core::Slice> TakeAll() {
    bytes_ = 0;
    return std::exchange(datagrams_, {});
  }

 private:
  std::deque<core::Slice> datagrams_;
  size_t bytes_ = 0;
};

}  // namespace tunnel::net
