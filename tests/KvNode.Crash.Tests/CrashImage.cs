namespace KvNode.Crash.Tests;

/// <summary>What happened to the changes that were not synced when the power went.</summary>
internal enum LossMode
{
    /// <summary>All of them reached the disk.</summary>
    NothingLost,

    /// <summary>None did.</summary>
    AllLost,

    /// <summary>Of each file, and of the names, the first few did.</summary>
    Prefix,

    /// <summary>Each 512-byte sector of each write did or did not, whatever the order; names by directory.</summary>
    Sectors,
}

/// <summary>Builds the directories a power failure at some moment of a journal could have left.</summary>
/// <remarks>
/// A change is certainly on the disk when a sync of its file (for names: of a directory concerned) began after it and
/// ended before the cut, or when it was written through an O_DSYNC descriptor. Every other change up to the cut is
/// kept or lost as the mode and the random numbers say.
/// </remarks>
internal sealed class CrashImage
{
    private const int SectorBytes = 512;

    private readonly PowerLossJournal _journal;
    private readonly List<int>[] _changes;
    private readonly List<(int Begin, int End)>[] _syncs;
    private readonly List<NameChange> _names = [];
    private readonly HashSet<int> _directories;

    public CrashImage(PowerLossJournal journal)
    {
        _journal = journal;
        _changes = [.. Enumerable.Range(0, journal.Objects).Select(static _ => new List<int>())];
        _syncs = [.. Enumerable.Range(0, journal.Objects).Select(static _ => new List<(int, int)>())];
        _directories = [.. journal.Records.Where(static record => record.Kind == JournalKind.MakeDirectory).Select(static record => record.Object)];
        IndexRecords();
    }

    /// <summary>Writes the image for a cut just before record <paramref name="cut"/> into an empty directory.</summary>
    public void Build(string target, int cut, LossMode mode, Random random)
    {
        var tree = new Dictionary<(int Directory, string Name), int>();
        foreach (var change in SurvivingNames(cut, mode, random))
        {
            change.ApplyTo(tree);
        }

        WriteDirectory(target, 0, tree, cut, mode, random);
    }

    /// <summary>Answers each writer had by the cut.</summary>
    public int[] AnswersAt(int cut, int writers)
    {
        var answers = new int[writers];
        for (var i = 0; i < cut; i++)
        {
            var record = _journal.Records[i];
            if (record.Kind == JournalKind.Answer)
            {
                answers[record.Inode] = (int)record.Offset;
            }
        }

        return answers;
    }

    private void IndexRecords()
    {
        var tree = new Dictionary<(int Directory, string Name), int>();
        var open = new Dictionary<(int Object, long Thread), int>();
        for (var i = 0; i < _journal.Records.Count; i++)
        {
            var record = _journal.Records[i];
            switch (record.Kind)
            {
                case JournalKind.Write or JournalKind.Truncate or JournalKind.Allocate when record.Object >= 0:
                    _changes[record.Object].Add(i);
                    break;
                case JournalKind.SyncBegin when record.Object >= 0:
                    open[(record.Object, record.Offset)] = i;
                    break;
                case JournalKind.SyncEnd when open.Remove((record.Object, record.Offset), out var begin):
                    _syncs[record.Object].Add((begin, i));
                    break;
                case JournalKind.Create or JournalKind.MakeDirectory:
                    AddName(tree, new NameChange(i, null, Place(tree, record.Path), record.Object));
                    break;
                case JournalKind.Link:
                    AddName(tree, new NameChange(i, null, Place(tree, record.Second), record.Object));
                    break;
                case JournalKind.Unlink or JournalKind.RemoveDirectory:
                    AddName(tree, new NameChange(i, Place(tree, record.Path), null, record.Object));
                    break;
                case JournalKind.Rename:
                    AddName(tree, new NameChange(i, Place(tree, record.Path), Place(tree, record.Second), record.Object));
                    break;
                default:
                    break;
            }
        }
    }

    private void AddName(Dictionary<(int Directory, string Name), int> tree, NameChange change)
    {
        _names.Add(change);
        change.ApplyTo(tree);
    }

    /// <summary>The directory (as an object) and the last name of a path, as the tree stands.</summary>
    private (int Directory, string Name) Place(Dictionary<(int Directory, string Name), int> tree, string path)
    {
        Assert.StartsWith(_journal.Root + "/", path, StringComparison.Ordinal);
        var words = path[(_journal.Root.Length + 1)..].Split('/', StringSplitOptions.RemoveEmptyEntries);
        var directory = 0;
        foreach (var word in words[..^1])
        {
            directory = tree[(directory, word)];
        }

        return (directory, words[^1]);
    }

    private IEnumerable<NameChange> SurvivingNames(int cut, LossMode mode, Random random)
    {
        var until = _names.Where(change => change.At < cut).ToArray();
        var lost = until.Where(change => !IsDurable(change, cut)).ToArray();
        HashSet<NameChange> gone = mode switch
        {
            LossMode.NothingLost => [],
            LossMode.AllLost => [.. lost],
            LossMode.Prefix => [.. lost.Skip(random.Next(lost.Length + 1))],
            _ => [.. lost.GroupBy(static change => change.Directory).SelectMany(group => group.Skip(random.Next(group.Count() + 1)))],
        };
        return until.Where(change => !gone.Contains(change));
    }

    private bool IsDurable(NameChange change, int cut) =>
        IsSynced(change.Removed?.Directory, change.At, cut) || IsSynced(change.Added?.Directory, change.At, cut);

    private bool IsSynced(int? target, int at, int cut) =>
        target is { } found && _syncs[found].Exists(sync => sync.Begin > at && sync.End < cut);

    private void WriteDirectory(
        string path, int directory, Dictionary<(int Directory, string Name), int> tree, int cut, LossMode mode, Random random)
    {
        Directory.CreateDirectory(path);
        foreach (var ((_, name), child) in tree.Where(pair => pair.Key.Directory == directory).OrderBy(static pair => pair.Key.Name, StringComparer.Ordinal))
        {
            var childPath = Path.Combine(path, name);
            if (_directories.Contains(child))
            {
                WriteDirectory(childPath, child, tree, cut, mode, random);
            }
            else
            {
                File.WriteAllBytes(childPath, Content(child, cut, mode, random).Span);
            }
        }
    }

    private ReadOnlyMemory<byte> Content(int file, int cut, LossMode mode, Random random)
    {
        var content = new GrowingFile();
        var synced = _syncs[file].Where(sync => sync.End < cut).Select(static sync => sync.Begin).DefaultIfEmpty(-1).Max();
        var changes = _changes[file].Where(at => at < cut).ToArray();
        var open = changes.Where(at => at > synced).ToArray();
        var kept = mode == LossMode.Prefix ? random.Next(open.Length + 1) : 0;
        var keepPercent = random.Next(5) * 25;
        foreach (var at in changes.Except(open))
        {
            content.Apply(_journal.Records[at]);
        }

        for (var i = 0; i < open.Length; i++)
        {
            var record = _journal.Records[open[i]];
            if (record.Durable || mode == LossMode.NothingLost || i < kept)
            {
                content.Apply(record);
            }
            else if (mode == LossMode.Sectors)
            {
                ApplySome(content, record, keepPercent, random);
            }
        }

        return content.Bytes;
    }

    private static void ApplySome(GrowingFile content, JournalRecord record, int keepPercent, Random random)
    {
        if (record.Kind != JournalKind.Write)
        {
            if (random.Next(100) < keepPercent)
            {
                content.Apply(record);
            }

            return;
        }

        for (var at = 0; at < record.Data.Length;)
        {
            var inSector = (int)((record.Offset + at) % SectorBytes);
            var length = Math.Min(SectorBytes - inSector, record.Data.Length - at);
            if (random.Next(100) < keepPercent)
            {
                content.Apply(record with { Offset = record.Offset + at, Data = record.Data.Slice(at, length) });
            }

            at += length;
        }
    }

    /// <summary>A name appears, disappears, or both at once.</summary>
    private sealed record NameChange(int At, (int Directory, string Name)? Removed, (int Directory, string Name)? Added, int Object)
    {
        public int Directory => Added?.Directory ?? Removed!.Value.Directory;

        /// <summary>
        /// A removal does nothing where the name's arrival was lost. A rename whose target directory was synced puts the
        /// file there, whether or not its old name had ever reached the disk.
        /// </summary>
        public void ApplyTo(Dictionary<(int Directory, string Name), int> tree)
        {
            if (Removed is { } old && tree.TryGetValue(old, out var there) && there == Object)
            {
                _ = tree.Remove(old);
            }

            if (Added is { } place)
            {
                tree[place] = Object;
            }
        }
    }
}
