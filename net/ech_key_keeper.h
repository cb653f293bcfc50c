// The server's ECH keys while it runs: follows the key directory, rotates, and hands each new set to all cores.
#pragma once

#include <absl/functional/any_invocable.h>

#include <chrono>
#include <memory>
#include <string>

#include "core/directory_watch.h"
#include "core/reactor.h"
#include "core/timers.h"
#include "core/worker.h"
#include "ech/key_rotation.h"
#include "net/config.h"

namespace tunnel::net {

// What `config` says of the life of keys.
[[nodiscard]] ech::KeyPolicy KeyPolicyOf(const Config& config);

// Core 0's. Files are read and written on a thread of its own. A directory, or one file in it, that cannot be read
// leaves what is in use as it is and is warned of once.
class EchKeyKeeper {
 public:
  // Calls `changed` with another set than `current`, again and again, from the reactor's turn.
  using Changed = absl::AnyInvocable<void(std::shared_ptr<const ech::KeyStore> keys)>;
  EchKeyKeeper(core::Reactor& reactor, const Config& config, std::shared_ptr<const ech::KeyStore> current,
               Changed changed);
  EchKeyKeeper(const EchKeyKeeper&) = delete;
  EchKeyKeeper& operator=(const EchKeyKeeper&) = delete;

  // Looks at the directory now.
  void Look();

 private:
  // Several files that change together are one change.
  static constexpr core::Duration kSettle = std::chrono::milliseconds(50);
  // How often a directory is looked at whose changes are told, and one whose changes are not: without inotify, on a
  // network file system.
  static constexpr core::Duration kWatchedPause = std::chrono::minutes(10);
  static constexpr core::Duration kUnwatchedPause = std::chrono::seconds(10);

  void Rewatch();
  void OnLooked(absl::StatusOr<ech::KeyLook> look, std::chrono::system_clock::time_point at);
  void Complain(const absl::Status& status);

  core::Reactor& reactor_;
  const std::string directory_;
  const ech::KeyPolicy policy_;
  std::shared_ptr<const ech::KeyStore> current_;
  Changed changed_;
  bool looking_ = false;
  bool look_again_ = false;
  bool unwatched_said_ = false;
  std::string complaint_;  // the last that was logged
  core::Timer settle_;
  core::Timer next_;
  core::DirectoryWatch watch_;
  core::Worker worker_;
};

}  // namespace tunnel::net
