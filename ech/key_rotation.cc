#include "ech/key_rotation.h"

#include <algorithm>
#include <system_error>
#include <utility>

namespace tunnel::ech {
namespace {

using std::chrono::system_clock;

absl::StatusOr<KeyStore> LoadPublished(const std::filesystem::path& directory, const KeyPolicy& policy,
                                       system_clock::time_point now) {
  absl::StatusOr<KeyStore> store = KeyStore::Load(directory);
  if (store.ok()) store->Publish(now, policy.publish_delay);
  return store;
}

absl::Status MakeNext(const std::filesystem::path& directory, const KeyPolicy& policy, const KeyStore& store,
                      system_clock::time_point now) {
  std::vector<uint8_t> taken;
  for (const EchKey& key : store.keys()) {
    for (const EchConfig& config : key.configs()) taken.push_back(config.config_id);
  }
  const absl::StatusOr<EchKey> key = GenerateKey(policy.public_name, policy.maximum_name_length, taken, now);
  if (!key.ok()) return key.status();
  return SaveKey(*key, directory / KeyFileName(*key));
}

// The files of made keys that are over at `now`: those replaced long ago, and the oldest of too many.
std::vector<std::filesystem::path> FindOver(const KeyStore& store, const KeyPolicy& policy,
                                            system_clock::time_point now) {
  std::vector<std::filesystem::path> over;
  size_t made = 0;
  for (size_t i = 0; i < store.files().size(); ++i) {
    if (!IsMadeKeyFileName(store.files()[i].filename().string())) continue;
    ++made;
    if (i == 0 || &store.keys()[i] == &store.published()) continue;
    // Replaced when its successor was published.
    const system_clock::time_point replaced = store.keys()[i - 1].created() + policy.publish_delay;
    if (made > kMadeKeyLimit || replaced + kKeptAfterSuccession <= now) over.push_back(store.files()[i]);
  }
  return over;
}

}  // namespace

absl::StatusOr<KeyLook> LookAfterKeys(const std::filesystem::path& directory, const KeyPolicy& policy,
                                      system_clock::time_point now) {
  absl::StatusOr<KeyStore> store = LoadPublished(directory, policy, now);
  if (!store.ok()) return store.status();
  std::vector<std::string> events;
  const bool rotates = policy.rotate > std::chrono::seconds(0);
  bool failed = false;
  if (rotates && store->newest().created() + policy.rotate <= now) {
    if (const absl::Status made = MakeNext(directory, policy, *store, now); !made.ok()) {
      failed = true;
      events.push_back(fmt::format("no new ECH key: {}", MessageOf(made)));
    } else {
      store = LoadPublished(directory, policy, now);
      if (!store.ok()) return store.status();
      events.push_back(fmt::format("made an ECH key: {}", store->files().front().string()));
    }
  }
  if (rotates) {
    const std::vector<std::filesystem::path> over = FindOver(*store, policy, now);
    for (const std::filesystem::path& file : over) {
      std::error_code error;
      std::filesystem::remove(file, error);
      events.push_back(
          error ? fmt::format("{}: an ECH key that is over cannot be removed: {}", file.string(), error.message())
                : fmt::format("removed an ECH key that is over: {}", file.string()));
    }
    if (!over.empty()) {
      store = LoadPublished(directory, policy, now);
      if (!store.ok()) return store.status();
    }
  }
  KeyLook look{.store = *std::move(store), .events = std::move(events), .next = {}};
  look.next = look.store.NextPublication(now, policy.publish_delay);
  if (rotates) {
    // One that failed is tried again when its time has come once more.
    const system_clock::time_point due = (failed ? now : look.store.newest().created()) + policy.rotate;
    if (!look.next.has_value() || due < *look.next) look.next = due;
  }
  return look;
}

}  // namespace tunnel::ech
