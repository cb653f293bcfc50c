// A directory of ECH keys over time: a new one when the newest has its age, and those gone that nobody can have cached.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/status.h"
#include "ech/key_store.h"

namespace tunnel::ech {

struct KeyPolicy {
  std::chrono::seconds rotate{0};         // the age at which the newest key gets a successor; 0: never
  std::chrono::seconds publish_delay{0};  // how old a key is before it is published
  std::string public_name;                // of the keys that are made
  uint8_t maximum_name_length = kDefaultMaximumNameLength;
};

// How long a key is kept once another is published in its place: records are cached for a day at most (kLongestTtl of
// the client's cache), and as long again for resolvers that hold them longer than they should.
inline constexpr std::chrono::hours kKeptAfterSuccession{48};
// Made keys that are kept at most, whatever the rotation: what is over it goes, oldest first.
inline constexpr size_t kMadeKeyLimit = 32;
static_assert(kMadeKeyLimit < kKeyLimit);

// What a look at the directory gave.
struct KeyLook {
  KeyStore store;                   // Publish()ed
  std::vector<std::string> events;  // for the log: a key was made, keys were removed, a file could not be
  std::optional<std::chrono::system_clock::time_point> next;  // when there will be something to do by time alone
};

// Loads the directory, makes the key that is due, removes the files of keys that are over (only those that this program
// made: IsMadeKeyFileName), and publishes. Several nodes may do this to one directory: one that finds a young key makes
// none. Blocking: not for a reactor's turn. Fails as KeyStore::Load does; then nothing was changed.
[[nodiscard]] absl::StatusOr<KeyLook> LookAfterKeys(const std::filesystem::path& directory, const KeyPolicy& policy,
                                                    std::chrono::system_clock::time_point now);

}  // namespace tunnel::ech
