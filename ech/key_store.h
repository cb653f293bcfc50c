// The server's ECH keys: made, kept one per file as RFC 9934 PEM, and handed to BoringSSL.
//
// A directory holds `*.ech` files. One is published and sent as retry config: the newest (by modification time, then
// name) that has been there for the publish delay, which gives the other nodes of a fleet the time to know it. All of
// them are accepted, so that clients with an older DNS answer still get in (RFC 9849 section 8.1).
#pragma once

#include <openssl/ssl.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "ech/config_list.h"

namespace tunnel::ech {

inline constexpr std::string_view kKeyFileExtension = ".ech";
// What ClientHellos pad the inner name to; the tunnel's names are ordinary host names (RFC 9849 section 6.1.3).
inline constexpr uint8_t kDefaultMaximumNameLength = 64;
// Each key can cost a trial decryption of a ClientHello that a stranger sends.
inline constexpr size_t kKeyLimit = 64;

// An X25519 private key with the config(s) that publish it. Owns the key and overwrites it when it goes.
class EchKey {
 public:
  using PrivateKey = std::array<uint8_t, kX25519KeyBytes>;

  EchKey(const PrivateKey& private_key, std::vector<EchConfig> configs, std::chrono::system_clock::time_point created);
  ~EchKey();
  EchKey(EchKey&& other) noexcept;
  EchKey& operator=(EchKey&& other) noexcept;
  EchKey(const EchKey&) = delete;
  EchKey& operator=(const EchKey&) = delete;

  [[nodiscard]] const PrivateKey& private_key() const { return private_key_; }
  // The configs whose public key this is: one for a key made here. Never empty.
  [[nodiscard]] std::span<const EchConfig> configs() const { return configs_; }
  [[nodiscard]] const std::string& public_name() const { return configs_.front().public_name; }
  [[nodiscard]] std::chrono::system_clock::time_point created() const { return created_; }
  // The ECHConfigList to publish for this key alone.
  [[nodiscard]] std::vector<uint8_t> ConfigListBytes() const;

 private:
  PrivateKey private_key_;
  std::vector<EchConfig> configs_;
  std::chrono::system_clock::time_point created_;
};

// Makes an X25519 key and its config (HKDF-SHA256 with AES-128-GCM and ChaCha20-Poly1305) under a random id that is
// none of `taken_ids`, unless all 256 are taken. Fails with kInvalidArgument when `public_name` is no host name.
[[nodiscard]] absl::StatusOr<EchKey> GenerateKey(std::string_view public_name, uint8_t maximum_name_length,
                                                 std::span<const uint8_t> taken_ids,
                                                 std::chrono::system_clock::time_point created);

// The key's RFC 9934 file; it contains the private key, so the caller wipes it (WipeString) when done.
[[nodiscard]] std::string KeyToPem(const EchKey& key);

// Reads such a file: one PRIVATE KEY, one ECHCONFIG, of which at least one config is for that key.
[[nodiscard]] absl::StatusOr<EchKey> KeyFromPem(std::string_view text, std::chrono::system_clock::time_point created);

// Writes the key to `path` atomically with mode 0600; makes the folder with mode 0700 when there is none.
[[nodiscard]] absl::Status SaveKey(const EchKey& key, const std::filesystem::path& path);

// Immutable once loaded, so one store may be read from every core; a reload makes another.
class KeyStore {
 public:
  // Loads every `*.ech` of the directory. One bad file fails the whole, naming it: a server that silently dropped a key
  // would reject its clients. kNotFound when there is none.
  [[nodiscard]] static absl::StatusOr<KeyStore> Load(const std::filesystem::path& directory);

  // As Load, but an absent or empty directory gets a first key for `public_name`, made at `now`.
  [[nodiscard]] static absl::StatusOr<KeyStore> LoadOrCreate(const std::filesystem::path& directory,
                                                             std::string_view public_name, uint8_t maximum_name_length,
                                                             std::chrono::system_clock::time_point now);

  // A store of keys held in memory only; the first is the one published. Fails when there are none or too many.
  [[nodiscard]] static absl::StatusOr<KeyStore> FromKeys(std::vector<EchKey> newest_first);

  [[nodiscard]] std::span<const EchKey> keys() const { return keys_; }  // newest first, never empty
  [[nodiscard]] const EchKey& newest() const { return keys_.front(); }
  // Where each of keys() was loaded from; empty for a store that was not.
  [[nodiscard]] std::span<const std::filesystem::path> files() const { return files_; }

  // Publishes the newest key that is `delay` old at `now`; the oldest while none is. Without this, or with a delay of
  // zero, the newest is published.
  void Publish(std::chrono::system_clock::time_point now, std::chrono::seconds delay);
  [[nodiscard]] const EchKey& published() const { return keys_[published_]; }
  // When Publish() will choose a newer one; nothing while the newest is published.
  [[nodiscard]] std::optional<std::chrono::system_clock::time_point> NextPublication(
      std::chrono::system_clock::time_point now, std::chrono::seconds delay) const;
  // The ECHConfigList for DNS and for retries: the published key's.
  [[nodiscard]] std::vector<uint8_t> PublishedList() const { return published().ConfigListBytes(); }
  // The config ids, newest first, as "3a 07", for the log.
  [[nodiscard]] std::string DescribeIds() const;
  // Whether both accept the same configs and publish the same one.
  [[nodiscard]] bool SameAs(const KeyStore& other) const;
  // Lines for the log: key files that others may read, a published name that is not the one asked for.
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }
  [[nodiscard]] bool created_first_key() const { return created_first_key_; }

  // A key set for SSL_CTX_set1_ech_keys: all keys, the published one as retry config. The caller owns it.
  [[nodiscard]] absl::StatusOr<bssl::UniquePtr<SSL_ECH_KEYS>> MakeSslKeys() const;

  // Gives all keys to `ctx`. May be called while `ctx` has connections on other threads: that is how keys are rotated.
  [[nodiscard]] absl::Status ApplyTo(SSL_CTX* ctx) const;

 private:
  KeyStore() = default;

  std::vector<EchKey> keys_;
  std::vector<std::filesystem::path> files_;
  size_t published_ = 0;
  std::vector<std::string> warnings_;
  bool created_first_key_ = false;
};

// The file name for a key made at its creation time: sorts by age, says the config id.
[[nodiscard]] std::string KeyFileName(const EchKey& key);
// Whether a file has a name that KeyFileName gives: it was made by this program and may be removed by it.
[[nodiscard]] bool IsMadeKeyFileName(std::string_view name);

// What ClientHellos are to pad names to when the server has these: at least kDefaultMaximumNameLength, so that the
// padding tells nothing of a short one.
[[nodiscard]] uint8_t MaximumNameLengthFor(std::span<const std::string> names);

}  // namespace tunnel::ech
