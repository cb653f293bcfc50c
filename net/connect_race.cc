#include "net/connect_race.h"

#include <string>
#include <utility>

#include "net/staggered_race.h"

namespace tunnel::net {
namespace {

using core::SocketAddress;
using core::StreamSocket;

absl::Status Failure(const std::vector<SocketAddress>& addresses, const RaceOutcome<StreamSocket>& outcome,
                     core::Duration limit) {
  absl::Status first = absl::DeadlineExceededError("");
  std::string words;
  for (size_t i = 0; i < addresses.size(); ++i) {
    const absl::Status& failure = outcome.failures[i];
    if (i > 0) words += "; ";
    if (failure.ok()) {
      words += fmt::format("connect to {}: {} {} ms", addresses[i].ToString(),
                           i < outcome.started ? "no answer within" : "not tried within", core::ToMilliseconds(limit));
    } else {
      if (absl::IsDeadlineExceeded(first)) first = failure;
      words += MessageOf(failure);  // names its address
    }
  }
  return WithPayloadsOf(first, MakeStatus(first.code(), "{}", words));
}

core::Task<absl::StatusOr<StreamSocket>> Race(core::Reactor* reactor, std::vector<SocketAddress> addresses,
                                              ConnectRaceOptions options) {
  if (addresses.empty()) co_return InvalidArgument("no address to connect to");
  core::Task<RaceOutcome<StreamSocket>> race = StaggeredRace<StreamSocket>(
      [reactor, &addresses](size_t number) { return core::Connect(*reactor, addresses[number]); }, addresses.size(),
      RaceLimits{.delay = options.attempt_delay, .limit = options.limit});
  RaceOutcome<StreamSocket> outcome = co_await std::move(race);
  if (outcome.winner.has_value()) co_return std::move(*outcome.winner);
  if (!outcome.interruption.ok()) co_return outcome.interruption;
  co_return Failure(addresses, outcome, options.limit);
}

}  // namespace

core::Task<absl::StatusOr<StreamSocket>> ConnectRace(core::Reactor& reactor, std::vector<SocketAddress> addresses,
                                                     ConnectRaceOptions options) {
  return Race(&reactor, std::move(addresses), options);
}

}  // namespace tunnel::net
