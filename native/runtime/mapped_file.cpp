#include "mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "error.h"

namespace alma {

MappedFile::MappedFile(const std::string& path, uint64_t offset, size_t bytes) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw Error("ERR_ALMA_IO", "cannot open " + path + ": " + std::strerror(errno));
  struct stat status {};
  const bool known = fstat(file, &status) == 0;
  const uint64_t size = known ? static_cast<uint64_t>(status.st_size) : 0;
  // Touching pages behind the end of a file is a SIGBUS, so the length is checked against what the file has now.
  if (!known || offset > size || bytes > size - offset) {
    close(file);
    throw Error("ERR_ALMA_CHECKPOINT", path + ": expected " + std::to_string(bytes) + " bytes at offset " +
                                           std::to_string(offset) + ", the file has " + std::to_string(size) +
                                           " bytes");
  }
  if (bytes > 0) {
    const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    const uint64_t start = offset / page * page;
    length_ = bytes + static_cast<size_t>(offset - start);
    base_ = mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, static_cast<off_t>(start));
    if (base_ == MAP_FAILED) {
      const std::string reason = std::strerror(errno);
      base_ = nullptr;
      close(file);
      throw Error("ERR_ALMA_IO", "cannot map " + path + ": " + reason);
    }
    madvise(base_, length_, MADV_WILLNEED);
    data_ = static_cast<char*>(base_) + (offset - start);
  }
  close(file);
}

MappedFile::~MappedFile() {
  if (base_ != nullptr) munmap(base_, length_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)),
      length_(std::exchange(other.length_, 0)),
      data_(std::exchange(other.data_, nullptr)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(length_, other.length_);
  std::swap(data_, other.data_);
  return *this;
}

}  // namespace alma
