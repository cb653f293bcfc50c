// What an association has found out about its targets, told to its handler from the reactor's turn, one at a time.
#pragma once

#include <deque>
#include <utility>

#include "core/reactor.h"
#include "net/datagram_opener.h"

namespace tunnel::net {

// Part of an association, which its handler may destroy from each call. Owner core only.
class TargetAnswers final : core::Attention {
 public:
  TargetAnswers(core::Reactor& reactor, DatagramAssociation::Handler& handler) : reactor_(reactor), handler_(handler) {}

  void Tell(const proto::Target& target, absl::Status status) {
    answers_.emplace_back(target, std::move(status));
    reactor_.ScheduleAttention(*this);
  }

 private:
  void Attend() override {
    if (answers_.empty()) return;
    const std::pair<proto::Target, absl::Status> answer = std::move(answers_.front());
    answers_.pop_front();
    if (!answers_.empty()) reactor_.ScheduleAttention(*this);
    handler_.OnTarget(answer.first, answer.second);  // last: this may be destroyed from it
  }

  core::Reactor& reactor_;
  DatagramAssociation::Handler& handler_;
  std::deque<std::pair<proto::Target, absl::Status>> answers_;
};

}  // namespace tunnel::net
