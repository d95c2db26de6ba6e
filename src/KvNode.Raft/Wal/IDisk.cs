namespace KvNode.Raft.Wal;

/// <summary>
/// One directory of files, as far as the log needs it. The tests have one that forgets what was not synced.
/// </summary>
/// <remarks>
/// Names are plain file names. Creations, renames and deletions are durable only after <see cref="SyncDirectory"/>,
/// written bytes only after <see cref="IDiskFile.SyncData"/>. All members may be called from any thread; two threads
/// never write the same bytes of one file at a time. Errors of the operating system arrive as
/// <see cref="IOException"/> whose HResult is the errno value.
/// </remarks>
internal interface IDisk
{
    /// <summary>Where it is, for messages.</summary>
    string Location { get; }

    /// <summary>Bytes that may still be written before the disk is full, as the file system estimates it.</summary>
    long FreeBytes { get; }

    /// <summary>Names of all files, in no order.</summary>
    string[] List();

    /// <summary>Makes a new empty file.</summary>
    IDiskFile Create(string name);

    /// <summary>Opens an existing file.</summary>
    IDiskFile Open(string name, bool readOnly = false);

    /// <summary>Replaces the target if there is one. Open files keep working.</summary>
    void Rename(string source, string target);

    void Delete(string name);

    void SyncDirectory();
}

/// <summary>An open file of an <see cref="IDisk"/>.</summary>
internal interface IDiskFile : IDisposable
{
    long Length { get; }

    /// <summary>Fills the buffer from there; fewer bytes only at the end of the file.</summary>
    int Read(long offset, Span<byte> buffer);

    /// <summary>
    /// Writes all of it, front to back. After an exception any leading part may have reached the file.
    /// </summary>
    void Write(long offset, ReadOnlySpan<byte> data);

    /// <exception cref="Native.SyncFailedException">What was written may be lost. Never retried.</exception>
    void SyncData();
}
