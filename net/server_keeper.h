// What a client knows of its tunnel server, one for the whole process: where it is and under which ECHConfigList.
// Looked up over DoH, refreshed ahead of expiry whether or not anybody dials, and kept in -state.
#pragma once

#include <absl/functional/any_invocable.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/task.h"
#include "core/timers.h"
#include "core/worker.h"
#include "ech/cache_file.h"
#include "ech/config_cache.h"
#include "ech/doh_transport.h"
#include "net/config.h"
#include "net/server_lookup.h"

namespace tunnel::net {

// What the keeper tells the cores: never changed once it is told. Times are of the monotonic clock, which all cores
// share.
struct ServerKnowledge {
  std::optional<ech::ConfigToUse> ech;
  core::TimePoint ech_usable_until;
  std::vector<core::SocketAddress> addresses;  // in the order to try
  core::TimePoint addresses_usable_until;
  // What is known failed its last use: a lookup that is going on is worth a short wait.
  bool suspect = false;
  bool looking_up = false;
  // Why the last lookup failed, and when it ended; ok when it brought everything, or there was none.
  absl::Status failure;
  core::TimePoint failed_at;
};

// On one core, whose thread alone calls it; other cores have it called by a message.
class ServerKeeper {
 public:
  using Told = absl::AnyInvocable<void(const std::shared_ptr<const ServerKnowledge>&)>;

  // Reads what is kept in `cache_file` (blocking) and begins to look up what is missing or due, in tasks of `scope`.
  // With an empty `cache_file`, nothing is kept. `config`, `doh` and `scope` must outlive it, and the scope's tasks
  // must have ended before it is destroyed. Fails when -ech-config holds no usable config.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<ServerKeeper>> Create(core::Reactor& reactor,
                                                                            const Config& config,
                                                                            ech::DohTransport& doh, core::Scope& scope,
                                                                            std::filesystem::path cache_file);
  ServerKeeper(const ServerKeeper&) = delete;
  ServerKeeper& operator=(const ServerKeeper&) = delete;
  // Waits until what is to be kept has been written.
  ~ServerKeeper();

  // Where a client with this configuration keeps what it knows; empty when it looks nothing up, or has no -state.
  [[nodiscard]] static std::filesystem::path CacheFileOf(const Config& config);
  // Whether this client asks the DNS for anything at all.
  [[nodiscard]] static bool LooksUp(const Config& config);

  // `told` is called now and after every change.
  void Subscribe(Told told);
  // A handshake with `used` was rejected: its retry configs are kept, and a lookup is due.
  void OnRejected(const ech::ConfigToUse& used, const ech::Rejection& rejection);
  // A dial failed: the server may have moved, or its list may have gone with the outer name it stands for, whose
  // certificate would have had to vouch for a rejection. A lookup is due.
  void OnDialFailed();

 private:
  ServerKeeper(core::Reactor& reactor, const Config& config, ech::DohTransport& doh, core::Scope& scope,
               ech::ConfigCache cache, std::filesystem::path cache_file);
  void Load();
  void LogRestored(const char* what, core::TimePoint stored, core::TimePoint expires) const;
  // Sets the timer for the next lookup.
  void Arm();
  // A lookup is worth while before its time, but neither at once after the last one nor while lookups fail.
  void LookUpSoon();
  core::Task<void> LookUp();
  [[nodiscard]] absl::Status Apply(const ServerAnswer& answer);
  [[nodiscard]] core::TimePoint NextDue();
  void OnLookedUp(const absl::Status& status);
  void Publish();
  // Has what is known written, when it is not what is in the file already.
  void Save();
  void OnSaved(const absl::Status& status, const std::string& warning);
  [[nodiscard]] ech::CacheEntry Entry() const;

  core::Reactor& reactor_;
  const Config& config_;
  ech::DohTransport& doh_;
  core::Scope& scope_;
  const bool wants_ech_;          // and has to look it up
  bool addresses_given_ = false;  // by -ip or as the host of -f

  ech::ConfigCache cache_;
  std::vector<core::SocketAddress> addresses_;
  core::TimePoint addresses_stored_;
  core::TimePoint addresses_expire_;
  bool suspect_ = false;

  core::Timer lookup_timer_;
  core::TimePoint due_;
  core::TimePoint looked_up_at_;
  bool looked_up_ = false;  // once at least
  bool looking_up_ = false;
  unsigned failures_ = 0;  // in a row
  absl::Status failure_;
  std::vector<Told> told_;
  std::shared_ptr<const ServerKnowledge> knowledge_;

  const std::filesystem::path cache_file_;
  core::Timer save_timer_;
  std::optional<ech::CacheEntry> saved_;  // what this process has read or written last
  bool saving_ = false;
  bool save_again_ = false;
  unsigned busy_ = 0;  // attempts in a row that met another process
  bool save_failure_said_ = false;
  core::Worker worker_;  // the last: what it is asked to do ends before the rest goes
};

}  // namespace tunnel::net
