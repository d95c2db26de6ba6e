using KvNode.Storage;
using KvNode.Storage.Snapshots;

namespace KvNode.Server.Hosting;

/// <summary>The records of a snapshot of either kind: key, then the value in pieces. One thread at a time.</summary>
internal abstract class SnapshotRecords : IDisposable
{
    /// <summary>As stored; valid until the next <see cref="MoveNext"/>.</summary>
    public abstract ReadOnlySpan<byte> Key { get; }

    public abstract long ValueLength { get; }

    /// <summary>False: the end, and the whole input has been verified.</summary>
    /// <exception cref="SnapshotFormatException">Damaged, cut short, or not to be written as commands.</exception>
    public abstract bool MoveNext();

    /// <summary>Takes the next piece of the value; 0 when all of it has been taken.</summary>
    /// <exception cref="SnapshotFormatException">Damaged or cut short.</exception>
    public abstract int ReadValue(Span<byte> target);

    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);
}

/// <summary>KvNode's own file.</summary>
internal sealed class OwnSnapshotRecords(Stream input) : SnapshotRecords
{
    private readonly SnapshotReader _reader = new(input);

    public override ReadOnlySpan<byte> Key => _reader.Key;

    public override long ValueLength => _reader.ValueLength;

    public override bool MoveNext()
    {
        if (!_reader.MoveNext())
        {
            return false;
        }

        // SET can only carry strings; leaving anything else out would be a partial restore.
        return _reader.Tag == ValueTag.String ? true : throw new SnapshotFormatException(
            $"a value of kind 0x{(byte)_reader.Tag:X2}: this program can only write strings as commands");
    }

    public override int ReadValue(Span<byte> target) => _reader.ReadValue(target);

    protected override void Dispose(bool disposing) => _reader.Dispose();
}

/// <summary>A file of the original kvnode or of bitraft.</summary>
internal sealed class LegacySnapshotRecords(Stream input) : SnapshotRecords
{
    private readonly LegacySnapshotReader _reader = new(input);

    public override ReadOnlySpan<byte> Key => _reader.Key;

    public override long ValueLength => _reader.ValueLength;

    public override bool MoveNext() => _reader.MoveNext();

    public override int ReadValue(Span<byte> target) => _reader.ReadValue(target);

    protected override void Dispose(bool disposing) => _reader.Dispose();
}
