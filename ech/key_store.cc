#include "ech/key_store.h"

#include <fmt/chrono.h>
#include <openssl/bytestring.h>
#include <openssl/curve25519.h>
#include <openssl/evp.h>
#include <openssl/hpke.h>
#include <openssl/mem.h>
#include <openssl/rand.h>

#include <algorithm>
#include <bitset>
#include <ctime>
#include <iterator>
#include <memory>
#include <system_error>
#include <utility>

#include "core/check.h"
#include "ech/boringssl_error.h"
#include "ech/pem.h"
#include "ech/state_file.h"

namespace tunnel::ech {
namespace {

using std::chrono::system_clock;

// EVP_HPKE_KEY_free exists, but bssl::UniquePtr knows it only in newer headers.
struct HpkeKeyDeleter {
  void operator()(EVP_HPKE_KEY* key) const { EVP_HPKE_KEY_free(key); }
};
using HpkeKey = std::unique_ptr<EVP_HPKE_KEY, HpkeKeyDeleter>;

absl::StatusOr<uint8_t> PickConfigId(std::span<const uint8_t> taken_ids) {
  std::bitset<256> taken;
  for (const uint8_t id : taken_ids) taken.set(id);
  if (taken.all()) taken.reset();  // ids may repeat; it only costs the server trial decryptions
  for (;;) {
    uint8_t id = 0;
    const bool filled = RAND_bytes(&id, 1) == 1;  // layers: allow, keys are BoringSSL's affair
    if (!filled) return Internal("no random bytes: {}", TakeBoringSslError());
    if (!taken.test(id)) return id;
  }
}

HpkeKey ToHpkeKey(const EchKey::PrivateKey& private_key) {
  HpkeKey key(EVP_HPKE_KEY_new());
  if (key == nullptr ||
      EVP_HPKE_KEY_init(key.get(), EVP_hpke_x25519_hkdf_sha256(), private_key.data(), private_key.size()) != 1) {
    return nullptr;
  }
  return key;
}

// The raw X25519 key inside a PKCS#8 structure (RFC 8410).
absl::StatusOr<EchKey::PrivateKey> PrivateKeyFromPkcs8(std::span<const uint8_t> der) {
  CBS cbs;
  CBS_init(&cbs, der.data(), der.size());
  const bssl::UniquePtr<EVP_PKEY> pkey(EVP_parse_private_key(&cbs));
  if (pkey == nullptr || CBS_len(&cbs) != 0) {
    return InvalidArgument("the private key is not PKCS#8: {}", TakeBoringSslError());
  }
  if (EVP_PKEY_id(pkey.get()) != EVP_PKEY_X25519) return InvalidArgument("the private key is not an X25519 key");
  EchKey::PrivateKey raw{};
  size_t length = raw.size();
  if (EVP_PKEY_get_raw_private_key(pkey.get(), raw.data(), &length) != 1 || length != raw.size()) {
    return InvalidArgument("the private key cannot be read: {}", TakeBoringSslError());
  }
  return raw;
}

absl::StatusOr<EchKey> LoadKey(const std::filesystem::path& path, std::vector<std::string>& warnings) {
  absl::StatusOr<StateFile> file = ReadStateFile(path);
  if (!file.ok()) return file.status();
  if (file->readable_by_others) {
    warnings.push_back(fmt::format("{}: a private key that other users may read; chmod 600 it", path.string()));
  }
  absl::StatusOr<EchKey> key = KeyFromPem(file->text, file->modified);
  WipeString(file->text);
  if (!key.ok()) return Annotate(key.status(), "{}", path.string());
  return key;
}

}  // namespace

EchKey::EchKey(const PrivateKey& private_key, std::vector<EchConfig> configs, system_clock::time_point created)
    : private_key_(private_key), configs_(std::move(configs)), created_(created) {
  TUNNEL_CHECK(!configs_.empty());
}

EchKey::~EchKey() { OPENSSL_cleanse(private_key_.data(), private_key_.size()); }

EchKey::EchKey(EchKey&& other) noexcept
    : private_key_(other.private_key_), configs_(std::move(other.configs_)), created_(other.created_) {
  OPENSSL_cleanse(other.private_key_.data(), other.private_key_.size());
}

EchKey& EchKey::operator=(EchKey&& other) noexcept {
  if (this != &other) {
    private_key_ = other.private_key_;
    configs_ = std::move(other.configs_);
    created_ = other.created_;
    OPENSSL_cleanse(other.private_key_.data(), other.private_key_.size());
  }
  return *this;
}

std::vector<uint8_t> EchKey::ConfigListBytes() const {
  absl::StatusOr<std::vector<uint8_t>> list = MarshalConfigList(configs_);
  TUNNEL_CHECK(list.ok());  // the configs came out of one list, or are one
  return *std::move(list);
}

absl::StatusOr<EchKey> GenerateKey(std::string_view public_name, uint8_t maximum_name_length,
                                   std::span<const uint8_t> taken_ids, system_clock::time_point created) {
  if (!IsValidPublicName(public_name)) return InvalidArgument("'{}' is not a host name for ECH to show", public_name);
  const absl::StatusOr<uint8_t> id = PickConfigId(taken_ids);
  if (!id.ok()) return id.status();
  const HpkeKey hpke(EVP_HPKE_KEY_new());
  EchKey::PrivateKey raw{};
  size_t raw_length = 0;
  uint8_t* config = nullptr;
  size_t config_length = 0;
  if (hpke == nullptr || EVP_HPKE_KEY_generate(hpke.get(), EVP_hpke_x25519_hkdf_sha256()) != 1 ||
      EVP_HPKE_KEY_private_key(hpke.get(), raw.data(), &raw_length, raw.size()) != 1 || raw_length != raw.size() ||
      SSL_marshal_ech_config(&config, &config_length, *id, hpke.get(), std::string(public_name).c_str(),
                             maximum_name_length) != 1) {
    return Internal("an ECH key cannot be made: {}", TakeBoringSslError());
  }
  const bssl::UniquePtr<uint8_t> config_owner(config);
  std::vector<uint8_t> list = {static_cast<uint8_t>(config_length >> 8), static_cast<uint8_t>(config_length & 0xff)};
  list.insert(list.end(), config, config + config_length);
  absl::StatusOr<EchConfigList> parsed = ParseConfigList(list);
  if (!parsed.ok()) return Annotate(parsed.status(), "the ECH config just made");
  EchKey key(raw, std::move(parsed->usable), created);
  OPENSSL_cleanse(raw.data(), raw.size());
  return key;
}

std::string KeyToPem(const EchKey& key) {
  const bssl::UniquePtr<EVP_PKEY> pkey(
      EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, nullptr, key.private_key().data(), key.private_key().size()));
  std::array<uint8_t, 128> der{};
  size_t der_length = 0;
  bssl::ScopedCBB cbb;
  TUNNEL_CHECK(pkey != nullptr && CBB_init_fixed(cbb.get(), der.data(), der.size()) == 1 &&
               EVP_marshal_private_key(cbb.get(), pkey.get()) == 1 && CBB_finish(cbb.get(), nullptr, &der_length) == 1);
  std::string private_part = EncodePem(kPrivateKeyLabel, std::span(der).first(der_length));
  OPENSSL_cleanse(der.data(), der.size());
  const std::string public_part = EncodePem(kEchConfigLabel, key.ConfigListBytes());
  std::string text;
  text.reserve(private_part.size() + public_part.size());
  text.append(private_part).append(public_part);
  WipeString(private_part);
  return text;
}

absl::StatusOr<EchKey> KeyFromPem(std::string_view text, system_clock::time_point created) {
  const absl::StatusOr<PemBlocks> blocks = ParsePem(text);
  if (!blocks.ok()) return blocks.status();
  for (const std::string_view label : {kPrivateKeyLabel, kEchConfigLabel}) {
    if (blocks->Count(label) != 1) {
      return InvalidArgument("{} {} blocks where one is needed (RFC 9934)", blocks->Count(label), label);
    }
  }
  absl::StatusOr<EchKey::PrivateKey> raw = PrivateKeyFromPkcs8(blocks->First(kPrivateKeyLabel)->bytes);
  if (!raw.ok()) return raw.status();
  absl::StatusOr<EchConfigList> list = ParseConfigList(blocks->First(kEchConfigLabel)->bytes);
  if (!list.ok()) return list.status();
  std::array<uint8_t, X25519_PUBLIC_VALUE_LEN> public_key{};
  X25519_public_from_private(public_key.data(), raw->data());
  std::erase_if(list->usable,
                [&](const EchConfig& config) { return !std::ranges::equal(config.public_key, public_key); });
  if (list->usable.empty()) {
    OPENSSL_cleanse(raw->data(), raw->size());
    return InvalidArgument("the private key is not the one of the ECH config");
  }
  EchKey key(*raw, std::move(list->usable), created);
  OPENSSL_cleanse(raw->data(), raw->size());
  return key;
}

absl::Status SaveKey(const EchKey& key, const std::filesystem::path& path) {
  if (path.has_parent_path()) TUNNEL_RETURN_IF_ERROR(MakeStateDirectory(path.parent_path()));
  std::string pem = KeyToPem(key);
  const absl::Status written = WriteStateFile(path, pem, 0600);
  WipeString(pem);
  return written;
}

std::string KeyFileName(const EchKey& key) {
  const auto since_epoch = std::chrono::duration_cast<std::chrono::milliseconds>(key.created().time_since_epoch());
  const std::time_t seconds = std::chrono::floor<std::chrono::seconds>(since_epoch).count();
  std::tm utc = {};
  ::gmtime_r(&seconds, &utc);
  return fmt::format("{:%Y%m%dT%H%M%S}.{:03d}Z-{:02x}{}", utc, (since_epoch.count() % 1000 + 1000) % 1000,
                     key.configs().front().config_id, kKeyFileExtension);
}

bool IsMadeKeyFileName(std::string_view name) {
  // d stands for a digit, x for a hexadecimal one.
  constexpr std::string_view kPattern = "ddddddddTdddddd.dddZ-xx";
  if (!name.ends_with(kKeyFileExtension)) return false;
  name.remove_suffix(kKeyFileExtension.size());
  return std::ranges::equal(name, kPattern, [](char c, char wanted) {
    const bool digit = c >= '0' && c <= '9';
    if (wanted == 'd') return digit;
    return wanted == 'x' ? digit || (c >= 'a' && c <= 'f') : c == wanted;
  });
}

uint8_t MaximumNameLengthFor(std::span<const std::string> names) {
  size_t longest = kDefaultMaximumNameLength;
  for (const std::string& name : names) longest = std::max(longest, name.size());
  return static_cast<uint8_t>(std::min<size_t>(longest, 255));
}

absl::StatusOr<KeyStore> KeyStore::FromKeys(std::vector<EchKey> newest_first) {
  if (newest_first.empty()) return NotFound("no ECH keys");
  if (newest_first.size() > kKeyLimit) {
    return ResourceExhausted("{} ECH keys, more than the {} that are tried on a ClientHello", newest_first.size(),
                             kKeyLimit);
  }
  KeyStore store;
  store.keys_ = std::move(newest_first);
  return store;
}

absl::StatusOr<KeyStore> KeyStore::Load(const std::filesystem::path& directory) {
  std::error_code error;
  std::vector<std::filesystem::path> paths;
  for (auto it = std::filesystem::directory_iterator(directory, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    if (it->path().extension() == kKeyFileExtension) paths.push_back(it->path());
  }
  if (error == std::errc::no_such_file_or_directory) return NotFound("{}: no such directory", directory.string());
  if (error) return InvalidArgument("{}: cannot be listed: {}", directory.string(), error.message());
  if (paths.empty()) return NotFound("{}: no ECH keys (*{}) in it", directory.string(), kKeyFileExtension);
  std::ranges::sort(paths, std::greater<>());
  std::vector<EchKey> keys;
  std::vector<std::filesystem::path> files;
  std::vector<std::string> warnings;
  for (const std::filesystem::path& path : paths) {
    absl::StatusOr<EchKey> key = LoadKey(path, warnings);
    // One of those who share the folder has just removed it. A link to nowhere is still there, and a mistake.
    const bool gone = absl::IsNotFound(key.status()) && !is_symlink(symlink_status(path, error));
    if (gone) continue;
    if (!key.ok()) return key.status();
    // After those of the same time, so that the last name comes first.
    const auto place = std::ranges::upper_bound(keys, key->created(), std::greater<>(), &EchKey::created);
    files.insert(files.begin() + (place - keys.begin()), path);
    keys.insert(place, *std::move(key));
  }
  absl::StatusOr<KeyStore> store = FromKeys(std::move(keys));
  if (!store.ok()) return Annotate(store.status(), "{}", directory.string());
  store->files_ = std::move(files);
  store->warnings_ = std::move(warnings);
  return store;
}

absl::StatusOr<KeyStore> KeyStore::LoadOrCreate(const std::filesystem::path& directory, std::string_view public_name,
                                                uint8_t maximum_name_length, system_clock::time_point now) {
  absl::StatusOr<KeyStore> store = Load(directory);
  if (store.ok()) {
    if (store->newest().public_name() != public_name) {
      store->warnings_.push_back(fmt::format("{}: the published ECH key shows the name {}, not {}", directory.string(),
                                             store->newest().public_name(), public_name));
    }
    return store;
  }
  if (store.status().code() != absl::StatusCode::kNotFound) return store;
  absl::StatusOr<EchKey> key = GenerateKey(public_name, maximum_name_length, {}, now);
  if (!key.ok()) return key.status();
  TUNNEL_RETURN_IF_ERROR(MakeStateDirectory(directory));
  TUNNEL_RETURN_IF_ERROR(SaveKey(*key, directory / KeyFileName(*key)));
  // Read back what was written: two servers started at once then agree on what the directory says.
  store = Load(directory);
  if (store.ok()) store->created_first_key_ = true;
  return store;
}

void KeyStore::Publish(system_clock::time_point now, std::chrono::seconds delay) {
  published_ = 0;
  if (delay <= std::chrono::seconds(0)) return;
  while (published_ + 1 < keys_.size() && keys_[published_].created() + delay > now) ++published_;
}

std::optional<system_clock::time_point> KeyStore::NextPublication(system_clock::time_point now,
                                                                  std::chrono::seconds delay) const {
  for (size_t i = published_; i-- > 0;) {
    const system_clock::time_point due = keys_[i].created() + delay;
    if (due > now) return due;
  }
  return std::nullopt;
}

std::string KeyStore::DescribeIds() const {
  std::string text;
  for (const EchKey& key : keys_) {
    for (const EchConfig& config : key.configs()) fmt::format_to(std::back_inserter(text), " {:02x}", config.config_id);
  }
  return text.substr(1);
}

bool KeyStore::SameAs(const KeyStore& other) const {
  const auto same = [](const EchKey& a, const EchKey& b) { return std::ranges::equal(a.configs(), b.configs()); };
  return std::ranges::equal(keys_, other.keys_, same) && same(published(), other.published());
}

absl::StatusOr<bssl::UniquePtr<SSL_ECH_KEYS>> KeyStore::MakeSslKeys() const {
  bssl::UniquePtr<SSL_ECH_KEYS> set(SSL_ECH_KEYS_new());
  if (set == nullptr) return Internal("no memory for ECH keys");
  for (const EchKey& key : keys_) {
    const HpkeKey hpke = ToHpkeKey(key.private_key());
    if (hpke == nullptr) return Internal("an ECH private key was refused: {}", TakeBoringSslError());
    const int is_retry_config = &key == &published() ? 1 : 0;
    for (const EchConfig& config : key.configs()) {
      if (SSL_ECH_KEYS_add(set.get(), is_retry_config, config.raw.data(), config.raw.size(), hpke.get()) != 1) {
        return InvalidArgument("the ECH config with id {} was refused: {}", config.config_id, TakeBoringSslError());
      }
    }
  }
  return set;
}

absl::Status KeyStore::ApplyTo(SSL_CTX* ctx) const {
  const absl::StatusOr<bssl::UniquePtr<SSL_ECH_KEYS>> set = MakeSslKeys();
  if (!set.ok()) return set.status();
  if (SSL_CTX_set1_ech_keys(ctx, set->get()) != 1) return Internal("ECH keys were refused: {}", TakeBoringSslError());
  return absl::OkStatus();
}

}  // namespace tunnel::ech
