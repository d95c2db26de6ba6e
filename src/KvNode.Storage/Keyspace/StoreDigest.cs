using System.Buffers.Binary;
using System.Globalization;

namespace KvNode.Storage;

/// <summary>
/// What must be equal on every node that has applied the same entry, in a few numbers.
/// </summary>
/// <remarks>
/// <see cref="Content"/> is XXH64 (seed 0) over the records in key order, each as it stands in a <c>state.bin</c>: u32 key
/// length, key, u32 length of the stored value, tag, value; little-endian. So it can be computed from a snapshot file too.
/// It finds mistakes, it does not withstand a forger.
/// </remarks>
public sealed record StoreDigest
{
    /// <summary>Index and term of the last log entry in the state.</summary>
    public required ulong Index { get; init; }
    public required ulong Term { get; init; }

    /// <summary>The state's own clock, milliseconds since the Unix epoch.</summary>
    public required long ClockMs { get; init; }

    /// <summary>Keys walked.</summary>
    public required long Count { get; init; }

    /// <summary>Of all keys, tags and values.</summary>
    public required ulong Content { get; init; }

    /// <summary>Of the consensus engine's own bytes, which are replicated as well.</summary>
    public required ulong Engine { get; init; }

    /// <summary><c>index@term count clock content-engine</c>, the last two in hexadecimal.</summary>
    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture, $"{Index}@{Term} {Count} {ClockMs} {Content:x16}-{Engine:x16}");
}

public sealed partial class Store
{
    // Between two looks at the cancellation.
    private const int DigestStride = 1024;

    /// <summary>Reads the whole state and condenses it: some hundred nanoseconds a key, in constant memory. Pins LMDB's
    /// pages as any view does.</summary>
    /// <exception cref="InvariantException">The number of keys is not what the state says.</exception>
    public StoreDigest ComputeDigest(CancellationToken cancellation = default)
    {
        using var view = OpenView(out var engineState);
        using var cursor = view.Scan(default);
        var hash = new Hash64();
        var count = 0L;
        Span<byte> lengthAndTag = stackalloc byte[sizeof(uint) + 1];
        while (cursor.MoveNext())
        {
            if (++count % DigestStride == 0)
            {
                cancellation.ThrowIfCancellationRequested();
            }

            BinaryPrimitives.WriteInt32LittleEndian(lengthAndTag, cursor.Key.Length);
            hash.Append(lengthAndTag[..sizeof(uint)]);
            hash.Append(cursor.Key);
            BinaryPrimitives.WriteInt32LittleEndian(lengthAndTag, cursor.Value.Length + 1);
            lengthAndTag[^1] = (byte)cursor.Tag;
            hash.Append(lengthAndTag);
            hash.Append(cursor.Value);
        }

        Invariant.Check(count == view.Count, "a walk meets as many keys as the state counts", (ulong)count, (ulong)view.Count);
        return new StoreDigest
        {
            Index = view.Index,
            Term = view.Term,
            ClockMs = view.ClockMs,
            Count = count,
            Content = hash.Finish(),
            Engine = Hash64.Of(engineState),
        };
    }
}
