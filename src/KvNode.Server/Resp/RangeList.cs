using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace KvNode.Server.Resp;

/// <summary>
/// The places of a command's arguments: eight inside the owner itself, so that most connections never rent an array,
/// and a pooled array for more. A mutable struct: keep it in a field, never copy it.
/// </summary>
internal struct RangeList
{
    private const int FewMax = 8;

    private Few _few;
    private ArgRange[]? _many;

    [InlineArray(FewMax)]
    private struct Few
    {
        private ArgRange _first;
    }

    public int Count { get; private set; }

    /// <summary>Size of the rented array, in bytes.</summary>
    public readonly int HeldBytes => (_many?.Length ?? 0) * Unsafe.SizeOf<ArgRange>();

    [UnscopedRef]
    public Span<ArgRange> Items => (_many is null ? _few : _many.AsSpan())[..Count];

    public void Clear() => Count = 0;

    public void Add(ArgRange range)
    {
        var room = Room(Count + 1);
        room[Count++] = range;
    }

    /// <summary>Makes the list <paramref name="count"/> long; the caller fills what it is given.</summary>
    [UnscopedRef]
    public Span<ArgRange> Resize(int count)
    {
        var room = Room(count);
        Count = count;
        return room[..count];
    }

    /// <summary>Empties the list and gives a rented array back.</summary>
    public void Release()
    {
        Count = 0;
        if (_many is { } many)
        {
            _many = null;
            BufferPool.Return(many);
        }
    }

    [UnscopedRef]
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Span<ArgRange> Room(int count)
    {
        if (_many is null)
        {
            if (count <= FewMax)
            {
                return _few;
            }
        }
        else if (count <= _many.Length)
        {
            return _many;
        }

        return Grow(count);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private Span<ArgRange> Grow(int count)
    {
        var larger = BufferPool.Rent<ArgRange>(Math.Max(count, Count * 2));
        Items.CopyTo(larger);
        var outgrown = _many;
        _many = larger;
        if (outgrown is not null)
        {
            BufferPool.Return(outgrown);
        }

        return larger;
    }
}
