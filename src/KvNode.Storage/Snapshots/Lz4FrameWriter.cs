namespace KvNode.Storage.Snapshots;

/// <summary>
/// Makes one LZ4 frame, piece by piece, into the caller's buffer. One thread at a time.
/// </summary>
/// <remarks>The calls are <see cref="Begin"/>, any number of <see cref="Update"/>, <see cref="End"/>. Each returns the
/// bytes written at the start of the target, which must hold <see cref="OutputBytesMax"/>.</remarks>
internal sealed unsafe class Lz4FrameWriter : IDisposable
{
    private readonly Lz4Native.CompressionContext _context = Lz4Native.CreateCompressionContext();

    /// <param name="inputBytesMax">Longest piece ever given to <see cref="Update"/>. Pieces of 256 KiB make full
    /// blocks.</param>
    public Lz4FrameWriter(int inputBytesMax)
    {
        var preferences = Lz4Native.SnapshotPreferences;
        var bound = Lz4Native.Check(Lz4Native.CompressBound((nuint)inputBytesMax, &preferences), "bound");
        OutputBytesMax = Math.Max((int)bound, Lz4Native.FrameHeaderBytesMax);
    }

    /// <summary>The most that one call can write.</summary>
    public int OutputBytesMax { get; }

    public int Begin(Span<byte> target)
    {
        var preferences = Lz4Native.SnapshotPreferences;
        fixed (byte* t = target)
        {
            return (int)Lz4Native.Check(
                Lz4Native.CompressBegin(_context, t, (nuint)target.Length, &preferences), "begin");
        }
    }

    public int Update(ReadOnlySpan<byte> source, Span<byte> target)
    {
        fixed (byte* s = source)
        fixed (byte* t = target)
        {
            return (int)Lz4Native.Check(
                Lz4Native.CompressUpdate(_context, t, (nuint)target.Length, s, (nuint)source.Length, null), "update");
        }
    }

    public int End(Span<byte> target)
    {
        fixed (byte* t = target)
        {
            return (int)Lz4Native.Check(Lz4Native.CompressEnd(_context, t, (nuint)target.Length, null), "end");
        }
    }

    public void Dispose() => _context.Dispose();
}
