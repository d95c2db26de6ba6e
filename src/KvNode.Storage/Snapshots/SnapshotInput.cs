namespace KvNode.Storage.Snapshots;

/// <summary>Uncompressed bytes, front to back, verified by the time the end is reported. One thread at a
/// time.</summary>
internal abstract class SnapshotInput : IDisposable
{
    /// <summary>Fills the start of the target; 0 only at the verified end (or for an empty target).</summary>
    /// <exception cref="SnapshotFormatException">Damaged or cut short.</exception>
    /// <exception cref="IOException">The stream underneath could not be read.</exception>
    public abstract int Read(Span<byte> target);

    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);
}
