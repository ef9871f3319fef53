// A part of a file mapped into memory, privately: what is written there never reaches the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace alma {

class MappedFile {
 public:
  MappedFile() = default;
  // Maps [offset, offset + bytes). Throws ERR_ALMA_IO when the file cannot be opened, ERR_ALMA_CHECKPOINT when it is shorter.
  MappedFile(const std::string& path, uint64_t offset, size_t bytes);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  // Whether the system had the file in memory when it was mapped. Where it had not, fetch() is worth its time.
  bool was_cached() const { return was_cached_; }
  // Reads bytes [begin, begin + count) of the mapping from the disk, in pages as large as the system has. Waits for it; any thread.
  // Throws ERR_ALMA_IO where the disk fails or the file has become shorter: to touch such bytes would end the process.
  void fetch(size_t begin, size_t count) const;

 private:
  std::string path_;
  void* base_ = nullptr;
  size_t length_ = 0;  // of the mapping, which begins and ends with a page
  char* data_ = nullptr;
  size_t bytes_ = 0;
  bool was_cached_ = true;
  bool fetches_huge_pages_ = false;
};

}  // namespace alma
