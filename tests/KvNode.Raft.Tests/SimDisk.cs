using KvNode.Native;
using KvNode.Raft.Wal;

namespace KvNode.Raft.Tests;

/// <summary>What a <see cref="SimDisk"/> is asked to do.</summary>
internal enum DiskOperation
{
    List,
    Create,
    Open,
    Rename,
    Delete,
    SyncDirectory,
    Length,
    Read,
    Write,
    SyncData,
}

/// <summary>The machine lost power: nothing works until <see cref="SimDisk.AfterPowerLoss"/>.</summary>
internal sealed class PowerLossException() : Exception("power loss");

/// <summary>
/// A disk in memory that forgets what was not synced. After a power loss each 512-byte sector written since the last
/// sync has any of the contents it had since then, and each directory change since the last directory sync happened or
/// not. May be used by many threads.
/// </summary>
internal sealed class SimDisk : IDisk
{
    public const int Enospc = 28;
    public const int Eio = 5;

    private const int SectorBytes = 512;

    private readonly Lock _gate = new();
    private readonly List<Action<Dictionary<string, Inode>>> _unsyncedNames = [];
    private Dictionary<string, Inode> _durableNames = [];
    private Dictionary<string, Inode> _names = [];
    private bool _dead;

    /// <summary>Asked before each operation with its number, from 1; may throw. A write that throws first writes
    /// <see cref="PartialWrite"/> bytes of its data.</summary>
    public Action<DiskOperation, long>? Fault { get; set; }

    /// <summary>How much of a failing write of so many bytes reaches the page cache.</summary>
    public Func<int, int> PartialWrite { get; set; } = static bytes => bytes;

    /// <summary>Total size of all files; beyond it ENOSPC.</summary>
    public long Capacity { get; set; } = long.MaxValue;

    /// <summary>Answer <see cref="FreeBytes"/> as if there were always room, as a quota would.</summary>
    public bool HidesFreeBytes { get; set; }

    public long Operations { get; private set; }

    public long Syncs { get; private set; }

    public string Location => "sim";

    public long FreeBytes
    {
        get
        {
            lock (_gate)
            {
                return HidesFreeBytes ? 1L << 40 : Math.Max(0, Capacity - UsedBytes());
            }
        }
    }

    public static IOException Error(int errno) => new($"simulated errno {errno}", errno);

    public string[] List()
    {
        lock (_gate)
        {
            Enter(DiskOperation.List);
            return [.. _names.Keys];
        }
    }

    public IDiskFile Create(string name)
    {
        lock (_gate)
        {
            Enter(DiskOperation.Create);
            if (_names.ContainsKey(name))
            {
                throw Error(17);
            }

            var inode = new Inode();
            Change(names => names[name] = inode);
            return new SimFile(this, inode);
        }
    }

    public IDiskFile Open(string name, bool readOnly = false)
    {
        lock (_gate)
        {
            Enter(DiskOperation.Open);
            return _names.TryGetValue(name, out var inode)
                ? new SimFile(this, inode)
                : throw new FileNotFoundException(name);
        }
    }

    public void Rename(string source, string target)
    {
        lock (_gate)
        {
            Enter(DiskOperation.Rename);
            var inode = _names[source];
            Change(names =>
            {
                _ = names.Remove(source);
                names[target] = inode;
            });
        }
    }

    public void Delete(string name)
    {
        lock (_gate)
        {
            Enter(DiskOperation.Delete);
            Change(names => _ = names.Remove(name));
        }
    }

    public void SyncDirectory()
    {
        lock (_gate)
        {
            Enter(DiskOperation.SyncDirectory);
            _durableNames = new Dictionary<string, Inode>(_names);
            _unsyncedNames.Clear();
        }
    }

    /// <summary>From now on every operation throws <see cref="PowerLossException"/>.</summary>
    public void Kill()
    {
        lock (_gate)
        {
            _dead = true;
        }
    }

    /// <summary>The disk as the next boot finds it.</summary>
    public SimDisk AfterPowerLoss(Random random)
    {
        lock (_gate)
        {
            var names = new Dictionary<string, Inode>(_durableNames);
            foreach (var change in _unsyncedNames)
            {
                if (random.Next(2) == 0)
                {
                    change(names);
                }
            }

            return CopyOf(names, inode => inode.AfterPowerLoss(random));
        }
    }

    /// <summary>
    /// The disk as the next process finds it after this one was killed: the page cache is still there.
    /// </summary>
    public SimDisk AfterKill()
    {
        lock (_gate)
        {
            _dead = false;
            Fault = null;
            return this;
        }
    }

    /// <summary>An independent copy of what is visible now, all of it durable.</summary>
    public SimDisk Clone()
    {
        lock (_gate)
        {
            return CopyOf(_names, inode => new Inode { Content = [.. inode.Content], Durable = [.. inode.Content] });
        }
    }

    /// <summary>The file's bytes, to be looked at or damaged.</summary>
    public byte[] Raw(string name) => _names[name].Content;

    public void SetRaw(string name, byte[] content) =>
        _names[name] = _durableNames[name] = new Inode { Content = content, Durable = [.. content] };

    public void RemoveRaw(string name)
    {
        _ = _names.Remove(name);
        _ = _durableNames.Remove(name);
    }

    /// <summary>File names in order.</summary>
    public List<string> Names() => [.. _names.Keys.Order(StringComparer.Ordinal)];

    private static SimDisk CopyOf(Dictionary<string, Inode> names, Func<Inode, Inode> copy)
    {
        var next = new SimDisk();
        foreach (var (name, inode) in names)
        {
            next._names[name] = copy(inode);
        }

        next._durableNames = new Dictionary<string, Inode>(next._names);
        return next;
    }

    private void Change(Action<Dictionary<string, Inode>> change)
    {
        change(_names);
        _unsyncedNames.Add(change);
    }

    private void Enter(DiskOperation operation)
    {
        ThrowIfDead();
        Operations++;
        try
        {
            Fault?.Invoke(operation, Operations);
        }
        catch (PowerLossException)
        {
            _dead = true;
            throw;
        }
    }

    private void ThrowIfDead()
    {
        if (_dead)
        {
            throw new PowerLossException();
        }
    }

    private long UsedBytes() => _names.Values.Sum(inode => (long)inode.Content.Length);

    /// <summary>
    /// One file's bytes: as seen, as on the platter, and what each unsynced sector has been in between.
    /// </summary>
    private sealed class Inode
    {
        public byte[] Content { get; set; } = [];

        public byte[] Durable { get; set; } = [];

        public SortedDictionary<long, List<byte[]>> Unsynced { get; } = [];

        public void Write(long offset, ReadOnlySpan<byte> data)
        {
            if (data.IsEmpty)
            {
                return;
            }

            var end = offset + data.Length;
            if (end > Content.Length)
            {
                var longer = Content;
                Array.Resize(ref longer, (int)end);
                Content = longer;
            }

            data.CopyTo(Content.AsSpan((int)offset));
            for (var sector = offset / SectorBytes; sector * SectorBytes < end; sector++)
            {
                if (!Unsynced.TryGetValue(sector, out var versions))
                {
                    Unsynced[sector] = versions = [];
                }

                versions.Add(SectorOf(Content, sector));
            }
        }

        public void Sync()
        {
            if (Unsynced.Count > 0 || Durable.Length != Content.Length)
            {
                if (Durable.Length < Content.Length)
                {
                    var longer = Durable;
                    Array.Resize(ref longer, Content.Length);
                    Durable = longer;
                }

                foreach (var sector in Unsynced.Keys)
                {
                    Put(SectorOf(Content, sector), sector);
                }

                Unsynced.Clear();
            }
        }

        /// <summary>As the kernel does it: some pages are lost, and all of them are called clean.</summary>
        public void FailSync(Random random)
        {
            foreach (var sector in Unsynced.Keys)
            {
                if (random.Next(2) == 0)
                {
                    Put(SectorOf(Content, sector), sector);
                }
            }

            Unsynced.Clear();
        }

        public Inode AfterPowerLoss(Random random)
        {
            var after = new Inode { Content = [.. Durable], Durable = [.. Durable] };
            foreach (var (sector, versions) in Unsynced)
            {
                var version = random.Next(versions.Count + 1);
                if (version < versions.Count)
                {
                    after.Put(versions[version], sector);
                }
            }

            after.Content = [.. after.Durable];
            return after;
        }

        private static byte[] SectorOf(byte[] content, long sector)
        {
            var start = (int)(sector * SectorBytes);
            return content.AsSpan(start, Math.Min(SectorBytes, content.Length - start)).ToArray();
        }

        private void Put(byte[] bytes, long sector)
        {
            var start = (int)(sector * SectorBytes);
            if (start + bytes.Length > Durable.Length)
            {
                var longer = Durable;
                Array.Resize(ref longer, start + bytes.Length);
                Durable = longer;
            }

            bytes.CopyTo(Durable, start);
        }
    }

    private sealed class SimFile(SimDisk disk, Inode inode) : IDiskFile
    {
        public long Length
        {
            get
            {
                lock (disk._gate)
                {
                    disk.Enter(DiskOperation.Length);
                    return inode.Content.Length;
                }
            }
        }

        public int Read(long offset, Span<byte> buffer)
        {
            lock (disk._gate)
            {
                disk.Enter(DiskOperation.Read);
                var count = (int)Math.Clamp(inode.Content.Length - offset, 0, buffer.Length);
                inode.Content.AsSpan((int)Math.Min(offset, inode.Content.Length), count).CopyTo(buffer);
                return count;
            }
        }

        public void Write(long offset, ReadOnlySpan<byte> data)
        {
            lock (disk._gate)
            {
                disk.ThrowIfDead();
                try
                {
                    disk.Enter(DiskOperation.Write);
                }
                catch
                {
                    inode.Write(offset, data[..disk.PartialWrite(data.Length)]);
                    throw;
                }

                var room = disk.Capacity - disk.UsedBytes();
                var growth = offset + data.Length - inode.Content.Length;
                if (growth > room)
                {
                    inode.Write(offset, data[..(int)Math.Max(0, data.Length - (growth - room))]);
                    throw Error(Enospc);
                }

                inode.Write(offset, data);
            }
        }

        public void SyncData()
        {
            lock (disk._gate)
            {
                try
                {
                    disk.Enter(DiskOperation.SyncData);
                }
                catch (SyncFailedException)
                {
                    inode.FailSync(new Random((int)disk.Operations));
                    throw;
                }

                disk.Syncs++;
                inode.Sync();
            }
        }

        public void Dispose()
        {
        }
    }
}
