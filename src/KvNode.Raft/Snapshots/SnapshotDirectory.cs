using KvNode.Native;

namespace KvNode.Raft.Snapshots;

/// <summary>
/// The snapshots of one node: <c>&lt;root&gt;/&lt;term&gt;-&lt;index&gt;-&lt;ms&gt;/{state.bin,meta.json}</c>.
/// </summary>
/// <remarks>
/// <para>A snapshot is written aside under its name plus <c>.tmp</c>, synced (both files, then their directory),
/// renamed, and the rename synced. So a directory without <c>.tmp</c> is whole whenever the machine stops, and one with
/// it is rubbish, which the constructor removes. Removal goes the same way back: renamed to <c>.tmp</c>, then
/// deleted.</para>
/// <para>All members may be called from any thread; saves wait for each other. Only one process at a time may own a
/// root: the log directory's lock sees to that. <see cref="Verify"/> and <see cref="VerifyAll"/> change nothing.</para>
/// </remarks>
public sealed class SnapshotDirectory
{
    internal const string StateFileName = "state.bin";
    private const string TemporarySuffix = ".tmp";

    /// <summary>How many of the newest snapshots stay, unless told otherwise.</summary>
    public const int KeepDefault = 3;

    private const int CopyBytes = 1024 * 1024;

    /// <summary>Dirty pages beyond this are pushed to the disk while writing: one sync of gigabytes at the end would
    /// hold up the log's syncs on the same disk.</summary>
    private const long UnsyncedBytesMax = 32 * 1024 * 1024;

    /// <summary>ENOSPC and EDQUOT, as .NET reports them.</summary>
    private static readonly int[] DiskFullCodes = [28, 122];

    private readonly string _root;
    private readonly int _keep;
    private readonly TimeProvider _time;
    private readonly Lock _saving = new();

    // Times in names only go up, so that two snapshots of the same entry differ and sort by age.
    private long _lastUnixMs;

    /// <summary>Opens the directory, makes it when missing, and removes what an interrupted save or removal
    /// left.</summary>
    /// <param name="root">Usually <c>&lt;log-dir&gt;/snapshots</c>. Its parent must exist.</param>
    /// <param name="keep">Snapshots to keep, at least 1.</param>
    /// <exception cref="SyncFailedException">The new directory could not be made durable.</exception>
    public SnapshotDirectory(string root, int keep = KeepDefault)
        : this(root, keep, TimeProvider.System)
    {
    }

    internal SnapshotDirectory(string root, int keep, TimeProvider time)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(keep, 1);
        _root = Path.GetFullPath(root);
        _keep = keep;
        _time = time;
        if (!Directory.Exists(_root))
        {
            _ = Directory.CreateDirectory(_root);
            Libc.SyncDirectory(Path.GetDirectoryName(_root) ?? _root);
        }

        foreach (var directory in Directory.GetDirectories(_root))
        {
            if (directory.EndsWith(TemporarySuffix, StringComparison.Ordinal))
            {
                Directory.Delete(directory, recursive: true);
            }
            else if (SnapshotId.TryParse(Path.GetFileName(directory), out var id))
            {
                _lastUnixMs = Math.Max(_lastUnixMs, id.UnixMs);
            }
        }
    }

    /// <summary>The steps of <see cref="Save"/>, in order; each is announced before it is done.</summary>
    internal enum SaveStep
    {
        MakeDirectory,
        WriteState,
        SyncState,
        WriteMeta,
        SyncMeta,
        SyncDirectory,
        Rename,
        SyncRoot,
        RemoveOld,
        Done,
    }

    /// <summary>For tests: called before each step; what it throws happens there.</summary>
    internal Action<SaveStep>? Failpoint { get; set; }

    /// <summary>Writes a snapshot, durable when this returns, and removes those beyond the number to keep.</summary>
    /// <exception cref="SyncFailedException">A sync failed; nothing may be assumed about the disk any more.</exception>
    /// <exception cref="IOException">The disk is full or refuses; nothing was left behind, and a later try may
    /// succeed.</exception>
    public SnapshotInfo Save(ISnapshotReader reader)
    {
        ArgumentNullException.ThrowIfNull(reader);
        lock (_saving)
        {
            var id = NextId(reader.Meta.Position);
            var target = Path.Combine(_root, id.ToString());
            var temporary = target + TemporarySuffix;
            SnapshotInfo info;
            try
            {
                info = WriteAside(temporary, id, reader);
                Step(SaveStep.Rename);
                Directory.Move(temporary, target);
            }
            catch (Exception e)
            {
                RemoveLeftover(temporary);
                if (e is IOException and not SyncFailedException && DiskFullCodes.Contains(e.HResult & 0xFFFF))
                {
                    throw new IOException($"snapshot {id} not written: no space left in '{_root}'", e);
                }

                throw;
            }

            Step(SaveStep.SyncRoot);
            Libc.SyncDirectory(_root);
            Step(SaveStep.RemoveOld);
            RemoveOld(id);
            Step(SaveStep.Done);
            return info;
        }
    }

    /// <summary>The complete snapshots, newest first: name, meta.json and size agree. Checksums of the states are not
    /// verified here; what is not complete is left out (see <see cref="VerifyAll"/>).</summary>
    public IReadOnlyList<SnapshotInfo> List()
    {
        var found = new List<(SnapshotId Id, SnapshotInfo Info)>();
        foreach (var name in Names(_root))
        {
            if (SnapshotId.TryParse(name, out var id)
                && Examine(_root, name, content: false) is { Problem: null } check)
            {
                found.Add((id, check.Info!));
            }
        }

        found.Sort(static (a, b) => SnapshotId.Compare(b.Id, a.Id));
        return found.ConvertAll(static pair => pair.Info);
    }

    /// <summary>Where a snapshot's <c>state.bin</c> is.</summary>
    public string StatePath(string id) => Path.Combine(_root, id, StateFileName);

    /// <summary>Reads one snapshot whole and compares everything that is recorded twice: name, meta.json, size,
    /// CRC.</summary>
    public static SnapshotCheck Verify(string root, string id) => Examine(root, id, content: true);

    /// <summary><see cref="Verify"/> for each directory under the root, by name; leftovers of an interrupted save are
    /// passed over, as the next start removes them. Empty when there is no such root.</summary>
    public static IReadOnlyList<SnapshotCheck> VerifyAll(string root)
    {
        var checks = new List<SnapshotCheck>();
        foreach (var name in Names(root))
        {
            if (!name.EndsWith(TemporarySuffix, StringComparison.Ordinal))
            {
                checks.Add(Verify(root, name));
            }
        }

        return checks;
    }

    private SnapshotId NextId(EntryId position)
    {
        _lastUnixMs = Math.Max(_time.GetUtcNow().ToUnixTimeMilliseconds(), _lastUnixMs + 1);
        return new SnapshotId(position, _lastUnixMs);
    }

    private SnapshotInfo WriteAside(string directory, SnapshotId id, ISnapshotReader reader)
    {
        Step(SaveStep.MakeDirectory);
        _ = Directory.CreateDirectory(directory);
        Step(SaveStep.WriteState);
        var (size, crc) = WriteState(Path.Combine(directory, StateFileName), reader);
        var info = new SnapshotInfo
        {
            Id = id.ToString(),
            Position = id.Position,
            UnixMs = id.UnixMs,
            Size = size,
            Crc = crc,
            Count = reader.Meta.Count,
            Members = reader.Meta.Members,
            Format = SnapshotMetaFile.FormatVersion,
        };

        Step(SaveStep.WriteMeta);
        var metaPath = Path.Combine(directory, SnapshotMetaFile.FileName);
        using (var file = File.OpenHandle(metaPath, FileMode.CreateNew, FileAccess.Write))
        {
            RandomAccess.Write(file, SnapshotMetaFile.Encode(info), 0);
            Step(SaveStep.SyncMeta);
            Libc.SyncAll(file, metaPath);
        }

        Step(SaveStep.SyncDirectory);
        Libc.SyncDirectory(directory);
        return info;
    }

    private (long Size, ulong Crc) WriteState(string path, ISnapshotReader reader)
    {
        var buffer = new byte[CopyBytes];
        long size = 0;
        long synced = 0;
        var crc = Crc64.Start;
        using var file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.Write);
        int count;
        while ((count = reader.Read(buffer)) > 0)
        {
            var bytes = buffer.AsSpan(0, count);
            RandomAccess.Write(file, bytes, size);
            crc = Crc64.Append(crc, bytes);
            size += count;
            if (size - synced >= UnsyncedBytesMax)
            {
                Libc.SyncData(file, path);
                synced = size;
            }
        }

        Step(SaveStep.SyncState);
        Libc.SyncAll(file, path);
        return (size, Crc64.Finish(crc));
    }

    private void Step(SaveStep step) => Failpoint?.Invoke(step);

    /// <summary>Best effort: the error that brought us here matters more, and the next start tries again.</summary>
    private static void RemoveLeftover(string temporary)
    {
        try
        {
            if (Directory.Exists(temporary))
            {
                Directory.Delete(temporary, recursive: true);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Nothing depends on it.
        }
    }

    /// <summary>
    /// Removes complete snapshots of ours beyond the number to keep, never the one just made. What is damaged does not
    /// count and stays for a person to see, and so do the original's.
    /// </summary>
    private void RemoveOld(SnapshotId saved)
    {
        var kept = 1;
        foreach (var info in List())
        {
            if (info.Format == 0 || info.Id == saved.ToString() || ++kept <= _keep)
            {
                continue;
            }

            var path = Path.Combine(_root, info.Id);
            try
            {
                Directory.Move(path, path + TemporarySuffix);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // The new snapshot is safe all the same; this one is tried again at the next save.
                continue;
            }

            // A power loss may keep the removal of files and lose a rename before it: the rename must be durable first,
            // or what is left looks like a damaged snapshot.
            Libc.SyncDirectory(_root);
            RemoveLeftover(path + TemporarySuffix);
        }
    }

    private static List<string> Names(string root)
    {
        var names = new List<string>();
        if (Directory.Exists(root))
        {
            foreach (var path in Directory.GetDirectories(root))
            {
                names.Add(Path.GetFileName(path));
            }
        }

        names.Sort(StringComparer.Ordinal);
        return names;
    }

    private static SnapshotCheck Examine(string root, string id, bool content)
    {
        SnapshotInfo? info = null;
        try
        {
            info = ReadMeta(Path.Combine(root, id, SnapshotMetaFile.FileName));
            return new SnapshotCheck(id, FindProblem(root, id, info, content), info);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new SnapshotCheck(id, e.Message, info);
        }
    }

    private static string? FindProblem(string root, string id, SnapshotInfo info, bool content)
    {
        if (info.Id != id)
        {
            return $"{SnapshotMetaFile.FileName} belongs to {info.Id}";
        }

        var path = Path.Combine(root, id, StateFileName);
        using var file = File.OpenHandle(path);
        var size = RandomAccess.GetLength(file);
        if (size != info.Size)
        {
            return $"{StateFileName} has {size} bytes, {SnapshotMetaFile.FileName} says {info.Size}";
        }

        if (!content)
        {
            return null;
        }

        var buffer = new byte[CopyBytes];
        var crc = Crc64.Start;
        long position = 0;
        int count;
        while ((count = RandomAccess.Read(file, buffer, position)) > 0)
        {
            crc = Crc64.Append(crc, buffer.AsSpan(0, count));
            position += count;
        }

        return position == info.Size && Crc64.Finish(crc) == info.Crc
            ? null
            : $"{StateFileName} is damaged: its CRC is wrong";
    }

    private static SnapshotInfo ReadMeta(string path)
    {
        using var file = File.OpenHandle(path);
        var length = RandomAccess.GetLength(file);
        if (length > SnapshotMetaFile.BytesMax)
        {
            throw new SnapshotInvalidException($"{SnapshotMetaFile.FileName} has {length} bytes");
        }

        var bytes = new byte[length];
        var count = 0;
        int read;
        while (count < bytes.Length && (read = RandomAccess.Read(file, bytes.AsSpan(count), count)) > 0)
        {
            count += read;
        }

        return SnapshotMetaFile.Decode(bytes.AsSpan(0, count));
    }
}
