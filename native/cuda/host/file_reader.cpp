#include "file_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "../../runtime/error.h"

namespace alma::ALMA_CUDA {

FileReader::FileReader(const std::string& path, uint64_t offset, size_t bytes) : path_(path), offset_(offset) {
  file_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file_ < 0) throw Error("ERR_ALMA_IO", "cannot open " + path + ": " + std::strerror(errno));
  struct stat status {};
  const bool known = fstat(file_, &status) == 0;
  const uint64_t size = known ? static_cast<uint64_t>(status.st_size) : 0;
  if (!known || offset > size || bytes > size - offset) {
    close(file_);
    throw Error("ERR_ALMA_CHECKPOINT", path + ": expected " + std::to_string(bytes) + " bytes at offset " +
                                           std::to_string(offset) + ", the file has " + std::to_string(size) +
                                           " bytes");
  }
#if defined(POSIX_FADV_SEQUENTIAL)
  posix_fadvise(file_, static_cast<off_t>(offset), static_cast<off_t>(bytes), POSIX_FADV_SEQUENTIAL);
#endif
}

FileReader::~FileReader() { close(file_); }

void FileReader::read(void* target, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t count = pread(file_, static_cast<char*>(target) + done, bytes - done, static_cast<off_t>(offset_));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw Error("ERR_ALMA_IO", "cannot read " + path_ + ": " + std::strerror(errno));
    if (count == 0) throw Error("ERR_ALMA_CHECKPOINT", path_ + " became shorter while it was read");
    done += static_cast<size_t>(count);
    offset_ += static_cast<uint64_t>(count);
  }
}

}  // namespace alma::ALMA_CUDA
