using KvNode.Native;
using KvNode.Raft.Wal;

namespace KvNode.Simulation;

/// <summary>The machine went down in the middle of something.</summary>
internal sealed class PowerLossException() : Exception("power loss");

/// <summary>What becomes of what was written and not synced.</summary>
internal enum CrashKind
{
    /// <summary>Only the process ended: the page cache is still there.</summary>
    Process,

    /// <summary>All of it is lost.</summary>
    LosesAll,

    /// <summary>Some first part of it is there, cut at a sector.</summary>
    KeepsPrefix,

    /// <summary>Each sector is there or not.</summary>
    KeepsSectors,
}

/// <summary>A disk in memory for one thread: forgets what was not synced, fails when told to.</summary>
internal sealed class SimulationDisk(Dice dice) : IDisk
{
    private const int SectorBytes = 512;
    private const int Enospc = 28;
    private const int Eio = 5;

    private readonly List<NameChange> _unsyncedNames = [];
    private Dictionary<string, Inode> _names = new(StringComparer.Ordinal);
    private Dictionary<string, Inode> _durableNames = new(StringComparer.Ordinal);
    private bool _isDead;

    private readonly record struct NameChange(string Name, Inode? Inode);

    /// <summary>Operations until the power goes; negative: it does not.</summary>
    public int DiesAfter { get; set; } = -1;

    /// <summary>The next sync of data fails.</summary>
    public bool FailsSync { get; set; }

    /// <summary>No file can grow.</summary>
    public bool IsFull { get; set; }

    public string Location => "sim";

    public long FreeBytes => IsFull ? 0 : 1L << 40;

    public string[] List()
    {
        Enter();
        var names = new string[_names.Count];
        _names.Keys.CopyTo(names, 0);
        Array.Sort(names, StringComparer.Ordinal);
        return names;
    }

    public IDiskFile Create(string name)
    {
        Enter();
        if (_names.ContainsKey(name))
        {
            throw new IOException("it is there already", 17);
        }

        if (IsFull)
        {
            throw new IOException("No space left on device", Enospc);
        }

        var inode = new Inode();
        Change(name, inode);
        return new SimulationFile(this, inode);
    }

    public IDiskFile Open(string name, bool readOnly = false)
    {
        Enter();
        return _names.TryGetValue(name, out var inode)
            ? new SimulationFile(this, inode)
            : throw new FileNotFoundException(name);
    }

    public void Rename(string source, string target)
    {
        Enter();
        var inode = _names[source];
        Change(source, null);
        Change(target, inode);
    }

    public void Delete(string name)
    {
        Enter();
        Change(name, null);
    }

    public void SyncDirectory()
    {
        Enter();
        if (_unsyncedNames.Count > 0)
        {
            _durableNames = new Dictionary<string, Inode>(_names, StringComparer.Ordinal);
            _unsyncedNames.Clear();
        }
    }

    /// <summary>The node went down; the disk is as its next life finds it.</summary>
    public void Crash(CrashKind kind)
    {
        DiesAfter = -1;
        FailsSync = false;
        _isDead = false;
        if (kind == CrashKind.Process)
        {
            return;
        }

        // A rename is two changes of names in one: the journal has both or none, and everything before.
        var kept = kind == CrashKind.LosesAll ? 0 : dice.Next(_unsyncedNames.Count + 1);
        for (var i = 0; i < kept; i++)
        {
            var (name, inode) = _unsyncedNames[i];
            Set(_durableNames, name, inode);
        }

        if (kept > 0 && _unsyncedNames[kept - 1].Inode is null && kept < _unsyncedNames.Count)
        {
            Set(_durableNames, _unsyncedNames[kept].Name, _unsyncedNames[kept].Inode);
        }

        _unsyncedNames.Clear();
        _names = new Dictionary<string, Inode>(_durableNames, StringComparer.Ordinal);
        foreach (var inode in _names.Values)
        {
            inode.LosePower(kind, dice);
        }
    }

    /// <summary>The store does something on this disk that is all or nothing.</summary>
    public void Touch() => Enter();

    private static void Set(Dictionary<string, Inode> names, string name, Inode? inode)
    {
        if (inode is null)
        {
            _ = names.Remove(name);
        }
        else
        {
            names[name] = inode;
        }
    }

    private void Change(string name, Inode? inode)
    {
        Set(_names, name, inode);
        _unsyncedNames.Add(new NameChange(name, inode));
    }

    private void Enter()
    {
        if (_isDead || (DiesAfter >= 0 && DiesAfter-- == 0))
        {
            _isDead = true;
            throw new PowerLossException();
        }
    }

    /// <summary>One file's bytes, as seen and as on the platter.</summary>
    private sealed class Inode
    {
        private readonly List<(int Offset, int Count)> _unsynced = [];
        private byte[] _content = [];
        private byte[] _durable = [];
        private int _durableLength;

        public int Length { get; private set; }

        public Span<byte> Content => _content.AsSpan(0, Length);

        public void Write(int offset, ReadOnlySpan<byte> data)
        {
            if (data.IsEmpty)
            {
                return;
            }

            var end = offset + data.Length;
            if (end > _content.Length)
            {
                Array.Resize(ref _content, Math.Max(end, 2 * _content.Length));
            }

            Length = Math.Max(Length, end);
            data.CopyTo(_content.AsSpan(offset));
            _unsynced.Add((offset, data.Length));
        }

        public void Sync()
        {
            foreach (var (offset, count) in _unsynced)
            {
                Settle(_content, offset, count);
            }

            _unsynced.Clear();
        }

        /// <summary>As the kernel does it: some pages are lost, and all of them are called clean.</summary>
        public void FailSync(Dice dice)
        {
            Settle(CrashKind.KeepsSectors, dice, _content);
            _unsynced.Clear();
        }

        public void LosePower(CrashKind kind, Dice dice)
        {
            if (kind != CrashKind.LosesAll)
            {
                Settle(kind, dice, _content);
            }

            _unsynced.Clear();
            Array.Clear(_content);
            Length = _durableLength;
            _durable.AsSpan(0, Length).CopyTo(_content);
        }

        private void Settle(CrashKind kind, Dice dice, byte[] content)
        {
            var whole = dice.Next(_unsynced.Count + 1);
            for (var i = 0; i < _unsynced.Count; i++)
            {
                var (offset, count) = _unsynced[i];
                if (kind == CrashKind.KeepsSectors)
                {
                    SettleSectors(dice, content, offset, count);
                }
                else if (i < whole)
                {
                    Settle(content, offset, count);
                }
                else if (i == whole)
                {
                    Settle(content, offset, dice.Next((count / SectorBytes) + 1) * SectorBytes);
                }
            }
        }

        private void SettleSectors(Dice dice, byte[] content, int offset, int count)
        {
            for (var end = offset + count; offset < end;)
            {
                var next = Math.Min(end, (offset / SectorBytes * SectorBytes) + SectorBytes);
                if (dice.Next(2) == 0)
                {
                    Settle(content, offset, next - offset);
                }

                offset = next;
            }
        }

        private void Settle(byte[] content, int offset, int count)
        {
            if (count == 0)
            {
                return;
            }

            if (offset + count > _durable.Length)
            {
                Array.Resize(ref _durable, content.Length);
            }

            _durableLength = Math.Max(_durableLength, offset + count);
            content.AsSpan(offset, count).CopyTo(_durable.AsSpan(offset));
        }
    }

    private sealed class SimulationFile(SimulationDisk disk, Inode inode) : IDiskFile
    {
        public long Length => inode.Length;

        public int Read(long offset, Span<byte> buffer)
        {
            disk.Enter();
            var content = inode.Content;
            var from = (int)Math.Min(offset, content.Length);
            var count = Math.Min(content.Length - from, buffer.Length);
            content.Slice(from, count).CopyTo(buffer);
            return count;
        }

        public void Write(long offset, ReadOnlySpan<byte> data)
        {
            try
            {
                disk.Enter();
            }
            catch (PowerLossException)
            {
                inode.Write((int)offset, data[..disk.Torn(data.Length)]);
                throw;
            }

            if (disk.IsFull && offset + data.Length > inode.Length)
            {
                inode.Write((int)offset, data[..(int)Math.Clamp(inode.Length - offset, 0, data.Length)]);
                throw new IOException("No space left on device", Enospc);
            }

            inode.Write((int)offset, data);

        }

        public void SyncData()
        {
            disk.Enter();
            if (disk.FailsSync)
            {
                disk.FailsSync = false;
                disk.FailSync(inode);
                throw new SyncFailedException("fdatasync", "sim", Eio);
            }

            inode.Sync();
        }

        public void Dispose()
        {
        }
    }

    /// <summary>How much of a write is in the page cache when the power goes.</summary>
    private int Torn(int bytes) => dice.Next((bytes / SectorBytes) + 1) * SectorBytes;

    private void FailSync(Inode inode) => inode.FailSync(dice);
}
